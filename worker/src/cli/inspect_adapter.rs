//! What `inspect` reports about an adapter.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::path::Path;

use serde_json::{json, Value};

use super::error::CliError;
use super::report_text::{bytes, plain, plain_list};
use crate::checkpoint::{AdaptedModel, AdapterFile, Checkpoint, CheckpointArgs, Preview};

/// Names of tensors that fit nothing which the text lists.
const LISTED: usize = 8;

/// The description as JSON. `fits` is null if no model is named, else whether every tensor changes
/// something in it.
///
/// # Errors
/// The adapter is damaged, or the model that is named cannot be opened.
pub fn report(path: &Path, model: &CheckpointArgs) -> Result<Value, CliError> {
    let file = AdapterFile::open(path)?;
    let summary = file.summary();
    let (fits, misfit) = match model.is_empty() {
        true => (Value::Null, Value::Null),
        false => match misfit(&file, &Checkpoint::open(model)?) {
            None => (true.into(), Value::Null),
            Some(reason) => (false.into(), reason.into()),
        },
    };
    let preview = summary.info.preview.as_ref().map(|preview| match preview {
        Preview::Inside(_) => "inside".to_owned(),
        Preview::Beside(path) => path.to_string_lossy().into_owned(),
    });
    let ranks = summary.ranks.iter();
    let ranks: BTreeMap<String, usize> = ranks.map(|(rank, n)| (rank.to_string(), *n)).collect();
    Ok(json!({
        "adapter": summary.path.to_string_lossy(),
        "name": summary.info.name,
        "kinds": summary.kinds,
        "ranks": ranks,
        "dtypes": summary.types,
        "prefixes": summary.prefixes,
        "bytes": summary.bytes,
        "transformer": summary.transformer,
        "text_encoder": summary.text_encoder,
        "unused": summary.unused,
        "trigger_words": summary.info.trigger_words,
        "base_model": summary.info.base_model,
        "preview": preview,
        "fits": fits,
        "misfit": misfit,
    }))
}

/// Why an adapter does not fit a model.
fn misfit(file: &AdapterFile, checkpoint: &Checkpoint) -> Option<String> {
    let model = AdaptedModel {
        transformer: checkpoint.transformer.as_ref().map(|part| &part.config),
        text_encoder: checkpoint.text_encoder.as_ref().map(|part| &part.config),
    };
    file.fit(model, true).err().map(|error| error.to_string())
}

/// The description as text for a terminal.
pub fn as_text(report: &Value) -> String {
    let mut text = format!("adapter: {}\n", plain(&report["adapter"]));
    // Results of `writeln!` are ignored: writing to a string cannot fail.
    let mut line = |title: &str, value: &dyn Display| {
        let value = value.to_string();
        if !value.is_empty() {
            let _ = writeln!(text, "  {title}: {value}");
        }
    };
    let optional = |field: &str| match &report[field] {
        Value::Null => String::new(),
        value => plain(value),
    };
    let length = |field: &str| report[field].as_array().map_or(0, Vec::len);
    line("name", &optional("name"));
    line("kind", &counted(&report["kinds"], "module(s)"));
    line("rank", &counted(&report["ranks"], "module(s)"));
    line("stored as", &counted(&report["dtypes"], "tensor(s)"));
    line("size", &bytes(&report["bytes"]));
    line("names begin with", &prefixes(&report["prefixes"]));
    line(
        "transformer",
        &format!("{} module(s)", length("transformer")),
    );
    line(
        "text encoder",
        &format!("{} module(s)", length("text_encoder")),
    );
    line("trigger words", &plain_list(&report["trigger_words"]));
    line("trained on", &optional("base_model"));
    line("preview", &optional("preview"));
    let unused = report["unused"].as_array().into_iter().flatten();
    let names: Vec<_> = unused.take(LISTED).map(plain).collect();
    if !names.is_empty() {
        let more = if length("unused") > LISTED {
            ", …"
        } else {
            ""
        };
        let listed = names.join(", ");
        line(
            "fits nothing",
            &format!("{} tensor(s): {listed}{more}", length("unused")),
        );
    }
    match &report["fits"] {
        Value::Bool(true) => line("fits the model", &"yes"),
        // Not through `plain`: a reason is already escaped, and may be longer than a name.
        Value::Bool(false) => line(
            "fits the model",
            &format!("no: {}", report["misfit"].as_str().unwrap_or_default()),
        ),
        _ => {}
    }
    text
}

/// Names with counts: the name alone if it is the only one.
fn counted(value: &Value, unit: &str) -> String {
    let counts: Vec<_> = value.as_object().into_iter().flatten().collect();
    match &counts[..] {
        [(name, _)] => plain(&Value::from(name.as_str())),
        counts => {
            let each = counts
                .iter()
                .map(|(name, count)| format!("{} ({count} {unit})", plain(&name.as_str().into())));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Prefixes of names in quotes.
fn prefixes(value: &Value) -> String {
    let names = value.as_object().into_iter().flatten();
    let quoted = names.map(|(name, _)| match name.as_str() {
        "" => "the module".to_owned(),
        name => format!("`{}`", plain(&name.into())),
    });
    quoted.collect::<Vec<_>>().join(", ")
}
