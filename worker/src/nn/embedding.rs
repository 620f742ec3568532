//! Embeddings of token ids and of timesteps.

use candle_core::{Device, Result, Tensor};

use super::adapter::current;
use super::backend::fused;
use super::fused::Fused;

/// The rows `ids` of `table` `[N, D]`, or of the table that the current
/// [`AdapterSet`](super::AdapterSet) has in its place: `[S, D]`.
///
/// # Errors
/// An id is outside the table.
pub fn embed(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let table = &current(table);
    if let Some(rows) = fused().embed(table, ids)? {
        return Ok(rows);
    }
    table.index_select(&Tensor::new(ids, table.device())?, 0)
}

/// Sinusoidal embedding of timesteps in 0..1000, `[B, dim]` float32: cosines,
/// then sines, at frequencies `10000^(-i / (dim/2))`.
///
/// Source: AIDC-AI/Ovis-Image `layers.py` `timestep_embedding`.
///
/// # Errors
/// The result cannot be allocated on the device.
pub fn timestep_embedding(timesteps: &[f32], dim: usize, device: &Device) -> Result<Tensor> {
    let half = dim / 2;
    let frequencies: Vec<f32> = (0..half)
        .map(|i| (-(10000f32.ln()) * i as f32 / half as f32).exp())
        .collect();
    let values: Vec<f32> = timesteps
        .iter()
        .flat_map(|&t| {
            let angles = frequencies.iter().map(move |f| t * f);
            angles.clone().map(f32::cos).chain(angles.map(f32::sin))
        })
        .collect();
    Tensor::from_vec(values, (timesteps.len(), dim), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_looked_up() {
        let table = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let rows = embed(&table, &[1, 0, 1]).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows, [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]);
        assert!(embed(&table, &[2]).is_err());
    }

    #[test]
    fn timesteps_become_cosines_then_sines() {
        let embedded = timestep_embedding(&[0.0, 500.0], 4, &Device::Cpu).unwrap();
        let rows = embedded.to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [1.0, 1.0, 0.0, 0.0]);
        let wanted = [500f32.cos(), 5f32.cos(), 500f32.sin(), 5f32.sin()];
        for (found, wanted) in rows[1].iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-5, "{found} is not {wanted}");
        }
    }
}
