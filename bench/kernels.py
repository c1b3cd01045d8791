"""One thread's products and attention at every level and dtype, by shape: GFLOP/s and share of the highest rate."""

from __future__ import annotations

from typing import Any

from common import arguments, save

from bothways import _native

#: Name: (rows, columns, depth, GELU). As the engine computes them: the feed-forward part in blocks of 512 columns.
SHAPES = {
    "MiniLM heads": (256, 1152, 384, False),
    "MiniLM attention output": (256, 384, 384, False),
    "MiniLM inner with GELU": (256, 512, 384, True),
    "MiniLM output": (256, 384, 512, False),
    "MiniLM inner, 16 tokens": (16, 512, 384, True),
    "BERT-base heads": (256, 2304, 768, False),
    "BERT-base inner with GELU": (256, 512, 768, True),
    "BERT-large heads": (256, 3072, 1024, False),
}

#: Name: (tokens, heads, head size).
ATTENTION = {
    "MiniLM attention, 16 tokens": (16, 12, 32),
    "MiniLM attention, 128 tokens": (128, 12, 32),
    "BERT-base attention, 512 tokens": (512, 12, 64),
}


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for level, why in _native.levels():
        if why:
            print(f"level {level} is not covered: {why}")
            continue
        for dtype in _native.dtypes():
            peak = _native.measure_peak(level, dtype, 1, 0.3)
            rows = {name: _native.measure_linear(level, dtype, *shape, 0.2) for name, shape in SHAPES.items()}
            rows |= {name: _native.measure_attention(level, dtype, *shape, 0.1) for name, shape in ATTENTION.items()}
            print(f"{level} {dtype}: at most {peak / 1e9:.0f} GFLOP/s")
            for name, rate in rows.items():
                print(f"  {name:32} {rate / 1e9:7.0f} GFLOP/s {rate / peak:6.0%}")
            found[f"{level} {dtype}"] = {
                "peak_gflops": round(peak / 1e9, 1),
                "gflops": {name: round(rate / 1e9, 1) for name, rate in rows.items()},
            }
    shapes = {name: list(shape) for name, shape in (SHAPES | ATTENTION).items()}
    save("kernels", {"shapes": shapes, "tables": found}, options)


if __name__ == "__main__":
    main()
