"""The rate of JAX's matrix product."""

import time

import jax

GPU_SIDE, CPU_SIDE = 8192, 2048


def matmul_flops(dtype, gpu: bool):
    """A measure of the rate in floating-point operations per second.

    On a GPU ten products in a row hide the host's part; on a CPU it is the better of two tries, as for TensorFlow.
    """
    side, products, tries = (GPU_SIDE, 10, 1) if gpu else (CPU_SIDE, 1, 2)
    left, right = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in range(2))
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(left, right))

    def one_try() -> float:
        start = time.perf_counter()
        jax.block_until_ready([product(left, right) for _ in range(products)])
        return products * 2.0 * side**3 / (time.perf_counter() - start)

    return lambda: max(one_try() for _ in range(tries))
