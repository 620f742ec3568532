//! Sigma schedules of flow matching: 1 is noise, 0 is the image.

/// How the schedule is bent towards noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shift {
    /// By `exp(mu)`, with mu linear in the number of image tokens.
    ///
    /// Source: diffusers `pipeline_ovis_image.py` `calculate_shift`.
    Auto,
    /// By a constant, as ComfyUI's ModelSamplingAuraFlow and SD3.
    Constant(f64),
}

/// The automatic shift for this many image tokens: mu runs from 0.5 at 256
/// tokens to 1.15 at 4096.
pub fn flow_shift(image_tokens: usize) -> f64 {
    let slope = (1.15 - 0.5) / (4096.0 - 256.0);
    (0.5 + slope * (image_tokens as f64 - 256.0)).exp()
}

/// `steps + 1` sigmas, descending to 0. With `denoise` below 1 they are the
/// tail of a schedule of `steps / denoise` steps, as ComfyUI's KSampler has it.
pub fn sigmas(steps: usize, shift: Shift, image_tokens: usize, denoise: f64) -> Vec<f32> {
    let full = if denoise > 0.9999 {
        steps
    } else {
        (steps as f64 / denoise) as usize
    };
    let shift = match shift {
        Shift::Auto => flow_shift(image_tokens),
        Shift::Constant(shift) => shift,
    };
    (full - steps..full)
        .map(|i| {
            let t = 1.0 - i as f64 / full as f64;
            (shift / (shift + 1.0 / t - 1.0)) as f32
        })
        .chain([0.0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_one_and_ends_at_zero() {
        let sigmas = sigmas(50, Shift::Auto, 4096, 1.0);
        assert_eq!(sigmas.len(), 51);
        assert_eq!((sigmas[0], sigmas[50]), (1.0, 0.0));
        assert!(sigmas.windows(2).all(|w| w[0] > w[1]));
    }

    #[test]
    fn sigmas_are_diffusers() {
        let golden = include_str!("../../../tests/golden/sigmas.json");
        let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
        assert_eq!(golden.len(), 66);
        for entry in golden {
            let count = |field: &str| entry[field].as_u64().unwrap() as usize;
            let (steps, tokens) = (count("steps"), count("image_tokens"));
            let shift = entry["shift"].as_f64().map_or(Shift::Auto, Shift::Constant);
            let ours = sigmas(steps, shift, tokens, 1.0);
            let theirs = entry["sigmas"].as_array().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
                let difference = (f64::from(*a) - b.as_f64().unwrap()).abs();
                assert!(
                    difference <= 1e-6,
                    "sigma {i} of {steps} at {shift:?} and {tokens} tokens: {a} for {b}"
                );
            }
        }
    }

    #[test]
    fn partial_denoise_is_the_tail_of_a_longer_schedule() {
        let long = sigmas(20, Shift::Constant(3.0), 256, 1.0);
        assert_eq!(sigmas(10, Shift::Constant(3.0), 256, 0.5), long[10..]);
    }
}
