#include "board.h"

extern uint32_t bss_start[], bss_end[], stack_low[], stack_high[];
int main(void);
void start(void);

static int host(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void say(const char *text) {
    host(0x04, text);
}

void say_number(const char *name, uint32_t value) {
    char digits[] = "          \n";
    char *place = digits + 9;
    do {
        *place-- = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    say(name);
    say(digits);
}

static volatile uint32_t *const systick = (volatile uint32_t *)0xe000e010;

void clock_start(void) {
    systick[1] = 0xffffff;
    systick[2] = 0;
    systick[0] = 5;
}

uint32_t clock_ticks(void) {
    return 0xffffff - systick[2];
}

static uint32_t *stack_marked;

__attribute__((noinline)) void stack_mark(void) {
    uintptr_t here;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    stack_marked = (uint32_t *)here - 16;
    for (uint32_t *p = stack_low; p < stack_marked; p++) {
        *(volatile uint32_t *)p = 0xa5a5a5a5;
    }
}

uint32_t stack_used(void) {
    volatile uint32_t *p = stack_low;
    while (p < stack_marked && *p == 0xa5a5a5a5) {
        p++;
    }
    return (uint32_t)((uintptr_t)(stack_marked + 16) - (uintptr_t)p); /* with what was not marked */
}

void start(void) {
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20; /* the FPU, which code of -mfloat-abi=hard expects to be on */
    for (uint32_t *p = bss_start; p < bss_end; p++) {
        *(volatile uint32_t *)p = 0;
    }
    const int failed = main();
    host(0x18, (const void *)(failed ? 0x20023 : 0x20026)); /* stopped by an error, or at its end */
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void *const vectors[] = {stack_high, (void *)start};
