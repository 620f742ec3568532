//! Headers of adapters.

use std::sync::LazyLock;

use ovis_worker::checkpoint::{AdaptedModel, Adapter, AdapterFile, Checkpoint};

use crate::{demo, headers};

static MODEL: LazyLock<Checkpoint> = LazyLock::new(demo::checkpoint);

/// Most values of a change that is merged, to keep an input short.
const MOST_VALUES: usize = 1 << 17;

/// Opens a file that begins with `data` as an adapter of the demo model, filled up as by
/// [`headers`], and merges its changes. Says whether it is an adapter that changes something.
///
/// # Panics
/// If anything panics, a refusal is no text on one line, or a change has rows that the model has
/// not.
pub fn run(data: &[u8]) -> bool {
    let (_folder, path) = headers::filled(data);
    if let Ok(file) = AdapterFile::open(&path) {
        let summary = file.summary();
        assert_eq!(summary.path, path);
    }
    let model = AdaptedModel {
        transformer: MODEL.transformer.as_ref().map(|part| &part.config),
        text_encoder: MODEL.text_encoder.as_ref().map(|part| &part.config),
    };
    let adapter = match Adapter::open(&path, model, false) {
        Ok(adapter) => adapter,
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.contains(char::is_control),
                "{text:?}"
            );
            return false;
        }
    };
    let parts = [
        (
            &adapter.transformer,
            MODEL.transformer.as_ref().map(|part| &part.tensors),
        ),
        (
            &adapter.text_encoder,
            MODEL.text_encoder.as_ref().map(|part| &part.tensors),
        ),
    ];
    let mut has_changes = false;
    for (changes, tensors) in parts {
        for change in changes {
            let tensors = tensors.expect("the demo model has every part");
            let tensor = tensors.tensor(&change.place.tensor);
            let tensor = tensor.expect("a change is of a tensor of the model");
            let rows = change.place.rows.iter().map(|rows| rows.end).max();
            assert!(rows.is_some_and(|end| end <= tensor.shape[0]));
            has_changes = true;
            if change.place.len() <= MOST_VALUES {
                let mut values = vec![1.0; change.place.len()];
                change.merge(&mut values, 0.5).expect("the sizes are right");
                change.low_rank(8).expect("the factors can be read");
            }
        }
    }
    has_changes
}

/// Headers of adapters of each kind. All values are zeros.
pub fn seeds() -> Vec<Vec<u8>> {
    // Width 256, MLPs of 1024.
    let keys = "lora_unet_single_transformer_blocks_0_attn_to_k";
    let lora: [(&str, &[usize]); 3] = [
        ("transformer.norm_out.linear.lora_A.weight", &[4, 256]),
        ("transformer.norm_out.linear.lora_B.weight", &[512, 4]),
        ("transformer.norm_out.linear.lora_magnitude_vector", &[512]),
    ];
    let kinds: [&[(&str, &[usize])]; 5] = [
        &[
            ("lora_down.weight", &[4, 256, 1, 1]),
            ("lora_up.weight", &[256, 4, 1, 1]),
            ("alpha", &[]),
        ],
        &[
            ("lokr_w1", &[4, 8]),
            ("lokr_w2_a", &[64, 2]),
            ("lokr_w2_b", &[2, 32]),
        ],
        &[
            ("hada_w1_a", &[256, 2]),
            ("hada_w1_b", &[2, 256]),
            ("hada_w2_a", &[256, 2]),
            ("hada_w2_b", &[2, 256]),
        ],
        &[("oft_blocks", &[3, 32, 8, 8]), ("rescale", &[256, 1])],
        &[("oft_R.weight", &[32, 28])],
    ];
    let mut seeds = vec![header(
        lora.iter()
            .map(|(name, shape)| ((*name).to_owned(), *shape)),
    )];
    seeds.extend(kinds.map(|tensors| {
        header(
            tensors
                .iter()
                .map(|(name, shape)| (format!("{keys}.{name}"), *shape)),
        )
    }));
    seeds
}

/// The header of a file with float32 tensors, with its length.
fn header<'a>(tensors: impl Iterator<Item = (String, &'a [usize])>) -> Vec<u8> {
    let mut end = 0;
    let described = tensors.map(|(name, shape)| {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
    });
    let described: Vec<_> = described.collect();
    let text = format!("{{{}}}", described.join(","));
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
