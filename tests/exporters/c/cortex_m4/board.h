/* What a program on the board needs: text to the host, an end, and two measures. */
#include <stddef.h>
#include <stdint.h>

void say(const char *text);
void say_number(const char *name, uint32_t value);

/* SysTick counts down from 2^24 at 25 MHz, while QEMU under -icount shift=0 lets an instruction take a nanosecond:
   a tick is 40 instructions. */
void clock_start(void);
uint32_t clock_ticks(void);

/* Fill what lies below the stack; later, how deep the stack has reached since. */
void stack_mark(void);
uint32_t stack_used(void);
