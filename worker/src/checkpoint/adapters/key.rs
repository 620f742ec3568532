//! What each tensor of an adapter is to its module, according to its name.
//!
//! Sources of the names: peft `utils/save_and_load.py` (`lora_A`, `lokr_w1`, `oft_R`,
//! `lora_magnitude_vector`), kohya-ss sd-scripts `networks/lora.py` (`lora_down`, `alpha`), LyCORIS
//! `modules/*.py` (`weight_list`), diffusers `loaders/lora_conversion_utils.py` (`lora.down`,
//! `lora_linear_layer`), ComfyUI `comfy/lora.py` and `comfy/weight_adapter/*.py`.

/// What a tensor is to the module that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// LoRA's A, `[rank, in]`.
    Down,
    /// LoRA's B, `[out, rank]`.
    Up,
    /// The bias of LoRA's B, `[out]`.
    UpBias,
    /// The core between A and B, `[rank, rank]`.
    Mid,
    /// Numerator of the scale, or the constraint of OFT.
    Alpha,
    /// DoRA's magnitude of each row or column.
    Magnitude,
    /// LoKr's first factor.
    LokrW1,
    /// Product that the first factor is: left.
    LokrW1A,
    /// Product that the first factor is: right.
    LokrW1B,
    /// LoKr's second factor.
    LokrW2,
    /// Product that the second factor is: left.
    LokrW2A,
    /// Product that the second factor is: right.
    LokrW2B,
    /// The core of the second factor's product.
    LokrT2,
    /// LoHa's first product: left.
    HadaW1A,
    /// LoHa's first product: right.
    HadaW1B,
    /// LoHa's second product: left.
    HadaW2A,
    /// LoHa's second product: right.
    HadaW2B,
    /// The core of the first product.
    HadaT1,
    /// The core of the second product.
    HadaT2,
    /// LyCORIS's orthogonal blocks: 3 dimensions in OFT, 4 in BOFT.
    OftBlocks,
    /// Factor of each row after the rotation.
    Rescale,
    /// peft's orthogonal blocks, the upper triangles of skew-symmetric matrices.
    OftTriangles,
    /// Difference of the weight.
    Diff,
    /// Difference of the bias.
    DiffBias,
    /// Difference of a norm's weight.
    NormWeight,
    /// Difference of a norm's bias.
    NormBias,
}

/// The component of a norm's bias, which nothing follows.
const B_NORM: &str = "b_norm";

/// Components of names, and what they say. An adapter's own name and `weight` may follow them.
const COMPONENTS: [(&str, Role); 27] = [
    ("lora_A", Role::Down),
    ("lora_down", Role::Down),
    ("lora_B", Role::Up),
    ("lora_up", Role::Up),
    ("lora_mid", Role::Mid),
    ("alpha", Role::Alpha),
    ("dora_scale", Role::Magnitude),
    ("lora_magnitude_vector", Role::Magnitude),
    ("lokr_w1", Role::LokrW1),
    ("lokr_w1_a", Role::LokrW1A),
    ("lokr_w1_b", Role::LokrW1B),
    ("lokr_w2", Role::LokrW2),
    ("lokr_w2_a", Role::LokrW2A),
    ("lokr_w2_b", Role::LokrW2B),
    ("lokr_t2", Role::LokrT2),
    ("hada_w1_a", Role::HadaW1A),
    ("hada_w1_b", Role::HadaW1B),
    ("hada_w2_a", Role::HadaW2A),
    ("hada_w2_b", Role::HadaW2B),
    ("hada_t1", Role::HadaT1),
    ("hada_t2", Role::HadaT2),
    ("oft_blocks", Role::OftBlocks),
    ("rescale", Role::Rescale),
    ("oft_R", Role::OftTriangles),
    ("diff", Role::Diff),
    ("diff_b", Role::DiffBias),
    ("w_norm", Role::NormWeight),
];

impl Role {
    /// The component of a name that says it.
    pub fn component(self) -> &'static str {
        let found = COMPONENTS.iter().find(|(_, role)| *role == self);
        match (self, found) {
            (Self::UpBias, _) => "lora_B.bias",
            (_, Some((component, _))) => component,
            (_, None) => B_NORM,
        }
    }
}

/// A name's module, and what the tensor is to it; `None` for a name of no adapter.
pub(super) fn parse(key: &str) -> Option<(String, Role)> {
    let parts: Vec<&str> = key.split('.').collect();
    let (at, role) = (1..parts.len()).rev().find_map(|at| {
        let rest = &parts[at + 1..];
        role(parts[at], rest).map(|role| (at, role))
    })?;
    let module = match parts[at].strip_suffix("_lora") {
        // diffusers before version 0.15: `….to_q_lora.down.weight`.
        Some(last) => [&parts[..at], &[last]].concat().join("."),
        None => parts[..at].join("."),
    };
    (!module.is_empty()).then_some((module, role))
}

/// What a component with these components after it says.
fn role(component: &str, rest: &[&str]) -> Option<Role> {
    if component == B_NORM {
        return rest.is_empty().then_some(Role::NormBias);
    }
    if component == "lora" || component == "lora_linear_layer" || component.ends_with("_lora") {
        return match rest {
            ["down", "weight"] => Some(Role::Down),
            ["up", "weight"] => Some(Role::Up),
            _ => None,
        };
    }
    let (_, role) = COMPONENTS.iter().find(|(name, _)| *name == component)?;
    // An adapter's name may stand between: `lora_A.default.weight`.
    match (role, rest) {
        (_, [] | ["weight"]) => Some(*role),
        (Role::Up, ["bias"] | [_, "bias"]) => Some(Role::UpBias),
        (Role::Alpha, _) => None,
        (_, [_, "weight"]) => Some(*role),
        (_, [name]) if *name != "bias" => Some(*role),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_writer() {
        let cases = [
            ("a.to_q.lora_A.weight", "a.to_q", Role::Down),
            ("a.to_q.lora_B.default.weight", "a.to_q", Role::Up),
            ("a.to_q.lora_B", "a.to_q", Role::Up),
            ("a.to_q.lora_B.bias", "a.to_q", Role::UpBias),
            ("a_to_q.lora_mid.weight", "a_to_q", Role::Mid),
            ("a.to_q_lora.down.weight", "a.to_q", Role::Down),
            ("a.to_q.lora_linear_layer.up.weight", "a.to_q", Role::Up),
            ("a.to_q.lora.up.weight", "a.to_q", Role::Up),
            ("a_to_q.alpha", "a_to_q", Role::Alpha),
            ("a.lora_magnitude_vector.weight", "a", Role::Magnitude),
            ("a.lora_magnitude_vector", "a", Role::Magnitude),
            ("a_to_q.lokr_w2_a", "a_to_q", Role::LokrW2A),
            ("a.to_q.lokr_w1.default", "a.to_q", Role::LokrW1),
            ("a_to_q.oft_blocks", "a_to_q", Role::OftBlocks),
            ("a.oft_R.weight", "a", Role::OftTriangles),
            ("a.diff_b", "a", Role::DiffBias),
            ("norm.w_norm", "norm", Role::NormWeight),
            ("norm.b_norm", "norm", Role::NormBias),
        ];
        for (key, module, role) in cases {
            assert_eq!(parse(key), Some((module.to_owned(), role)), "{key}");
        }
        for key in [
            "a.weight",
            "alpha",
            "lora_A.weight",
            "",
            ".",
            "a.alpha.x.y",
            "a.diff.x.bias",
            "a.lora.weight",
        ] {
            assert_eq!(parse(key), None, "{key}");
        }
    }
}
