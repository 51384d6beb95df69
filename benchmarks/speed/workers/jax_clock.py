"""The rate of JAX's matrix product."""

import time

import jax

PEAK_SIDE = 8192


def matmul_flops(dtype):
    """A measure of the rate in floating-point operations per second: ten products in a row hide the host's part."""
    left, right = (jax.random.normal(jax.random.key(i), (PEAK_SIDE, PEAK_SIDE), dtype) for i in range(2))
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(left, right))

    def measure() -> float:
        start = time.perf_counter()
        results = [product(left, right) for _ in range(10)]
        jax.block_until_ready(results)
        return 10 * 2.0 * PEAK_SIDE**3 / (time.perf_counter() - start)

    return measure
