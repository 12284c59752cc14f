//! `bench kernels`: kernels of our own against libtorch's plain operators, on a GPU.

use serde_json::{Value, json};

use crate::cli::BenchKernels;
use crate::musetalk::device::Precision;
use crate::musetalk::find_device;
use crate::musetalk::tools::kernel_check::{KernelRow, check};

/// All kernels in the floats that are asked for. An error if one of them is farther off than plain operators may be.
pub(super) fn run(arguments: &BenchKernels) -> anyhow::Result<Value> {
    let device = find_device(arguments.device)?;
    let all = [Precision::Fp16, Precision::Bf16, Precision::Fp32];
    let kinds = arguments.dtype.map_or_else(|| all.to_vec(), |precision| vec![precision]);
    let mut rows = Vec::new();
    for precision in kinds {
        rows.extend(check(device, precision, arguments.rounds)?);
    }
    let astray = rows.iter().filter(|row| !row.holds).count();
    Ok(json!({
        "device": format!("{device:?}").to_lowercase(),
        "compared": rows.len(),
        "astray": astray,
        "kernels": rows.iter().map(row).collect::<Vec<_>>(),
    }))
}

fn row(row: &KernelRow) -> Value {
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    json!({
        "kernel": row.kernel, "shape": row.shape, "dtype": row.precision.name(), "holds": row.holds,
        "error": row.error, "plain_error": row.plain_error,
        "us": tenths(row.micros), "plain_us": tenths(row.plain_micros),
        "gb_per_second": tenths(row.gigabytes_per_second),
    })
}
