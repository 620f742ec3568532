//! Settings that came with an adapter apart from its tensors: alpha and the shape of rotations.
//!
//! Sources: peft `tuners/{lora,loha,lokr,oft}/config.py` and `utils/other.py` (`get_pattern_key`);
//! diffusers `loaders/lora_base.py` (`lora_adapter_metadata`, where each setting's name begins
//! with the part's); kohya-ss sd-scripts `networks/lora.py` (`ss_network_alpha`).

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::AdapterError;
use crate::checkpoint::{folder, json};

/// Name of the weights that peft saves, beside which its settings lie.
pub(super) const PEFT_WEIGHTS: &str = "adapter_model.safetensors";
/// Name of peft's settings.
const PEFT_SETTINGS: &str = "adapter_config.json";
/// Where diffusers stores the same settings in the file.
const DIFFUSERS_SETTINGS: &str = "lora_adapter_metadata";
/// Where kohya stores the alpha of all modules.
const KOHYA_ALPHA: &str = "ss_network_alpha";

/// peft's default number of Neumann terms.
const NEUMANN_TERMS: usize = 5;
/// peft's default bound of COFT.
const COFT_EPS: f64 = 6e-5;
/// Most Neumann terms. More take longer without a difference in float64.
const MAX_TERMS: u64 = 64;

/// Settings of an adapter.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// Settings of peft, with the prefix of the modules that they are of.
    peft: Vec<(String, Map<String, Value>)>,
    /// Alpha of all modules without their own.
    alpha: Option<f64>,
}

/// Alpha and rank of a module according to peft's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PeftScale {
    pub alpha: f64,
    /// The rank that was asked for; a LoKr may store a larger matrix whole.
    pub rank: Option<f64>,
    /// Whether alpha is divided by the square root of the rank (rsLoRA).
    pub by_root: bool,
}

/// How peft's OFT computes rotations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OftSettings {
    pub terms: Option<usize>,
    pub constraint: Option<f64>,
}

impl Settings {
    /// Reads the settings of an adapter's file.
    ///
    /// # Errors
    /// They are not the JSON that their names promise, or a pattern is not a plain name.
    pub fn of(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Self, AdapterError> {
        let wrong = |reason: String| AdapterError::Settings {
            file: path.to_owned(),
            reason,
        };
        let mut peft: Vec<(String, Map<String, Value>)> = Vec::new();
        if let Some(text) = metadata.get(DIFFUSERS_SETTINGS) {
            let Ok(Value::Object(all)) = serde_json::from_str(text) else {
                return Err(wrong(format!(
                    "its `{DIFFUSERS_SETTINGS}` is no JSON object"
                )));
            };
            let mut parts: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
            for (name, value) in all {
                let (part, name) = name.split_once('.').unwrap_or(("", &name));
                let part = parts.entry(part.to_owned()).or_default();
                part.insert(name.to_owned(), value);
            }
            peft.extend(parts);
        }
        let beside = folder::around(path).join(PEFT_SETTINGS);
        if peft.is_empty() && folder::name_of(path) == PEFT_WEIGHTS && beside.is_file() {
            let Value::Object(all) = json::read(&beside)? else {
                return Err(AdapterError::Settings {
                    file: beside,
                    reason: "it is no JSON object".into(),
                });
            };
            peft.push((String::new(), all));
        }
        let alpha = metadata.get(KOHYA_ALPHA);
        let alpha = alpha.and_then(|text| text.trim().parse::<f64>().ok());
        let settings = Self {
            peft,
            alpha: alpha.filter(|alpha| alpha.is_finite()),
        };
        settings.check().map_err(wrong)?;
        Ok(settings)
    }

    /// Checks what decides about values.
    fn check(&self) -> Result<(), String> {
        for (_, settings) in &self.peft {
            for field in ["alpha_pattern", "rank_pattern"] {
                let patterns = settings.get(field).and_then(Value::as_object);
                for (pattern, value) in patterns.into_iter().flatten() {
                    if plain(pattern).is_none() {
                        return Err(format!(
                            "its `{field}` has the expression `{pattern}`, not a module's name"
                        ));
                    }
                    if value.as_f64().is_none() {
                        return Err(format!("its `{field}` of `{pattern}` is no number"));
                    }
                }
            }
            for field in [
                "lora_alpha",
                "alpha",
                "r",
                "num_cayley_neumann_terms",
                "eps",
            ] {
                if let Some(value) = settings.get(field).filter(|value| !value.is_null()) {
                    if value.as_f64().is_none_or(|number| number < 0.0) {
                        return Err(format!("its `{field}` is {value}, not a number from 0 on"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Alpha of all modules without their own, from kohya's metadata.
    pub fn alpha(&self) -> Option<f64> {
        self.alpha
    }

    /// The base model that peft's settings name.
    pub fn base_model(&self) -> Option<&str> {
        let mut settings = self.peft.iter().map(|(_, settings)| settings);
        settings.find_map(|settings| settings.get("base_model_name_or_path")?.as_str())
    }

    /// Settings of peft that apply to a module.
    fn of_module(&self, module: &str) -> Option<(&Map<String, Value>, String)> {
        let (prefix, settings) = self
            .peft
            .iter()
            .find(|(prefix, _)| prefix.is_empty() || module.starts_with(&format!("{prefix}.")))?;
        let mut name = module.strip_prefix(prefix.as_str()).unwrap_or(module);
        name = name.strip_prefix('.').unwrap_or(name);
        name = name.strip_prefix("base_model.model.").unwrap_or(name);
        Some((settings, name.to_owned()))
    }

    /// Alpha and rank of a module, if peft's settings have them.
    pub fn scale(&self, module: &str) -> Option<PeftScale> {
        let (settings, name) = self.of_module(module)?;
        let number = |field: &str, patterns: &str| {
            let patterns = settings.get(patterns).and_then(Value::as_object);
            let own = patterns.into_iter().flatten();
            let own = own.filter(|(pattern, _)| fits(pattern, &name));
            let own = own.map(|(_, value)| value).next();
            own.or(settings.get(field)).and_then(Value::as_f64)
        };
        let alpha = number("lora_alpha", "alpha_pattern").or(number("alpha", "alpha_pattern"))?;
        let flag = |field: &str| settings.get(field).and_then(Value::as_bool) == Some(true);
        Some(PeftScale {
            alpha,
            rank: number("r", "rank_pattern").filter(|rank| *rank > 0.0),
            by_root: flag("use_rslora"),
        })
    }

    /// How a module's rotation is computed; peft's defaults without settings.
    pub fn oft(&self, module: &str) -> OftSettings {
        let settings = self.of_module(module).map(|(settings, _)| settings);
        let field = |name: &str| settings.and_then(|settings| settings.get(name));
        let flag = |name: &str| field(name).and_then(Value::as_bool);
        let terms = field("num_cayley_neumann_terms").and_then(Value::as_u64);
        let terms = terms.map_or(NEUMANN_TERMS, |terms| terms.min(MAX_TERMS) as usize);
        let eps = field("eps").and_then(Value::as_f64).unwrap_or(COFT_EPS);
        OftSettings {
            terms: (flag("use_cayley_neumann") != Some(false)).then_some(terms),
            constraint: (flag("coft") == Some(true)).then_some(eps),
        }
    }
}

/// A pattern that is a module's name, without the anchors and escapes that peft and diffusers
/// write. peft takes patterns as regular expressions, of which a name is the only kind in use.
fn plain(pattern: &str) -> Option<String> {
    let name = pattern.strip_prefix('^').unwrap_or(pattern);
    let name = name.strip_suffix('$').unwrap_or(name).replace("\\.", ".");
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().all(is_plain).then_some(name)
}

/// Whether a pattern names a module: all of it, or its last components.
fn fits(pattern: &str, module: &str) -> bool {
    let Some(name) = plain(pattern) else {
        return false;
    };
    module == name || !pattern.starts_with('^') && module.ends_with(&format!(".{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(field: &str, text: &str) -> Result<Settings, AdapterError> {
        let metadata = BTreeMap::from([(field.to_owned(), text.to_owned())]);
        Settings::of(Path::new("x.safetensors"), &metadata)
    }

    #[test]
    fn patterns_override_the_settings_of_all() {
        let text = r#"{"transformer.r":8,"transformer.lora_alpha":4,"transformer.use_rslora":true,
            "transformer.alpha_pattern":{"attn.to_q":2,"^proj_out":1},
            "transformer.rank_pattern":{"attn.to_q":16},"text_encoder.lora_alpha":3}"#;
        let settings = with(DIFFUSERS_SETTINGS, text).unwrap();
        let scale = |module: &str| {
            let scale = settings.scale(module)?;
            Some((scale.alpha, scale.rank, scale.by_root))
        };
        let block = "transformer.transformer_blocks.0";
        let of_q = scale(&format!("{block}.attn.to_q"));
        assert_eq!(of_q, Some((2.0, Some(16.0), true)));
        let of_k = scale(&format!("{block}.attn.to_k"));
        assert_eq!(of_k, Some((4.0, Some(8.0), true)));
        assert_eq!(scale("transformer.proj_out"), Some((1.0, Some(8.0), true)));
        let single = "transformer.single_transformer_blocks.0.proj_out";
        assert_eq!(scale(single), Some((4.0, Some(8.0), true)));
        let text = scale("text_encoder.model.layers.0.mlp.up_proj");
        assert_eq!(text, Some((3.0, None, false)));
        assert_eq!(scale("lora_unet_x"), None);
    }

    #[test]
    fn settings_that_cannot_be_used_are_refused() {
        for (text, words) in [
            ("{", "no JSON object"),
            ("[1]", "no JSON object"),
            (r#"{"a.r":"x"}"#, "`r` is \"x\", not a number"),
            (r#"{"a.r":-1}"#, "`r` is -1, not a number"),
            (r#"{"a.alpha_pattern":{"x|y":1}}"#, "the expression `x|y`"),
            (r#"{"a.alpha_pattern":{"x":[]}}"#, "of `x` is no number"),
        ] {
            let error = with(DIFFUSERS_SETTINGS, text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert_eq!(with(KOHYA_ALPHA, "8.0").unwrap().alpha(), Some(8.0));
        for text in ["Dynamic", "nan", "inf", ""] {
            assert_eq!(with(KOHYA_ALPHA, text).unwrap().alpha(), None);
        }
    }

    #[test]
    fn rotations_have_pefts_defaults() {
        let default = OftSettings {
            terms: Some(5),
            constraint: None,
        };
        assert_eq!(Settings::default().oft("x"), default);
        let text = r#"{"t.use_cayley_neumann":false,"t.coft":true,"t.eps":0.5}"#;
        let wanted = OftSettings {
            terms: None,
            constraint: Some(0.5),
        };
        assert_eq!(with(DIFFUSERS_SETTINGS, text).unwrap().oft("t.x"), wanted);
    }
}
