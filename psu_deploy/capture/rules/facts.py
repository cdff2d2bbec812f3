"""What a network may ask of a tensor while it is captured: its sizes and kind, not its numbers."""

FACTS = frozenset(
    (
        *("shape", "size", "ndim", "dim", "ndimension", "__len__", "numel", "nelement", "device", "dtype", "layout"),
        *("is_cuda", "is_cpu", "is_meta", "is_sparse", "is_quantized", "is_mps", "is_mkldnn", "is_xpu", "itemsize"),
        *("is_floating_point", "is_complex", "is_signed", "is_contiguous", "is_leaf", "requires_grad", "grad_fn"),
        *("requires_grad_", "is_inference", "is_nested", "stride", "storage_offset", "element_size", "get_device"),
        *("data_ptr", "_version", "__repr__", "__format__", "__str__", "__hash__", "is_same_size", "type", "names"),
        *("grad", "retain_grad", "retains_grad", "register_hook", "is_shared", "is_pinned", "names", "__dir__"),
        *("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"),
        *("new_tensor", "broadcast_shapes", "result_type", "can_cast", "nbytes", "_is_view", "is_conj", "is_neg"),
    )
)
"""Answered on the example. What is the same for every input of these sizes is a constant, tensors too."""

READS_NUMBERS = frozenset(
    (
        *("__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__", "item", "tolist", "numpy"),
        *("__array__", "is_nonzero", "equal", "allclose", "nonzero", "unique", "unique_consecutive", "bincount"),
        *("masked_select", "histc", "__dlpack__"),
    )
)
"""What comes out is known for this example only."""

READS_NUMBERS_REASON = (
    "looks at the numbers of a tensor: the network would branch on its input, and an example cannot show all branches",
    "branch on shapes only; a decision is a neuron's",
)
