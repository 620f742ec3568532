//! The `--also` argument: another model beside the one of `--model`.

use std::path::PathBuf;

use clap::ValueEnum;
use ovis_protocol::is_model_name;
use ovis_protocol::limits::MAX_MODEL_NAME_BYTES;

use super::model_args::ModelArgs;
use super::precision::Precision;

/// Parses a model's name.
///
/// # Errors
/// It is too long, or has other characters than a name may have.
pub fn name(text: &str) -> Result<String, AlsoError> {
    match is_model_name(text) {
        true => Ok(text.to_owned()),
        false => Err(AlsoError::Name(text.to_owned())),
    }
}

/// One `--also` argument.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Also {
    /// The model's name.
    pub name: String,
    /// Its path; none for the main model's.
    pub path: Option<PathBuf>,
    /// Its precision; none for the main model's.
    pub precision: Option<Precision>,
    transformer: Option<PathBuf>,
    text_encoder: Option<PathBuf>,
    vae: Option<PathBuf>,
    tokenizer: Option<PathBuf>,
}

/// Why an `--also` argument was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlsoError {
    #[error(
        "`{0}` is no name: use 1 to {MAX_MODEL_NAME_BYTES} of A-Z, a-z, 0-9, `.`, `_` and `-`"
    )]
    Name(String),
    #[error("it is not of the form NAME=PATH")]
    NoName,
    #[error(
        "`{0}` is not precision, transformer, text-encoder, vae or tokenizer with `=` and a value"
    )]
    Key(String),
    #[error("`{0}` is given twice")]
    Twice(String),
    #[error("`{0}` is not a precision: use {all}", all = precisions())]
    Precision(String),
}

fn precisions() -> String {
    let all = Precision::value_variants().iter();
    let all = all.filter_map(ValueEnum::to_possible_value);
    let all: Vec<_> = all.map(|value| value.get_name().to_owned()).collect();
    all.join(", ")
}

impl Also {
    /// Parses `NAME=PATH` and what may follow it.
    ///
    /// # Errors
    /// It is not of that form; the text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, AlsoError> {
        let (given, rest) = text.split_once('=').ok_or(AlsoError::NoName)?;
        let mut also = Self {
            name: name(given)?,
            ..Self::default()
        };
        for (at, item) in rest.split(',').enumerate() {
            match item.split_once('=') {
                Some((key, value)) if also.set(key, value)? => {}
                // A path may have an equals sign in it.
                _ if at == 0 => also.path = (!item.is_empty()).then(|| item.into()),
                _ => return Err(AlsoError::Key(item.to_owned())),
            }
        }
        Ok(also)
    }

    /// Sets what a key names, and says whether there is such a key.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, AlsoError> {
        let path = match key {
            "precision" => {
                let unknown = |_| AlsoError::Precision(value.to_owned());
                let precision = Precision::from_str(value, true).map_err(unknown)?;
                return match self.precision.replace(precision) {
                    Some(_) => Err(AlsoError::Twice(key.to_owned())),
                    None => Ok(true),
                };
            }
            "transformer" => &mut self.transformer,
            "text-encoder" => &mut self.text_encoder,
            "vae" => &mut self.vae,
            "tokenizer" => &mut self.tokenizer,
            _ => return Ok(false),
        };
        match path.replace(value.into()) {
            _ if value.is_empty() => Err(AlsoError::Key(format!("{key}="))),
            Some(_) => Err(AlsoError::Twice(key.to_owned())),
            None => Ok(true),
        }
    }

    /// The files, with those of the main model for what is left out. Another path's own parts come
    /// before the main model's.
    pub fn files(&self, main: &ModelArgs) -> ModelArgs {
        let part = |own: &Option<PathBuf>, mains: &Option<PathBuf>| {
            let inherited = mains.as_ref().filter(|_| self.path.is_none());
            own.as_ref().or(inherited).cloned()
        };
        ModelArgs {
            model: part(&self.path, &main.model),
            transformer: part(&self.transformer, &main.transformer),
            text_encoder: part(&self.text_encoder, &main.text_encoder),
            vae: part(&self.vae, &main.vae),
            tokenizer: part(&self.tokenizer, &main.tokenizer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_models_are_read_from_one_argument() {
        let also = Also::parse("fast=/models/ovis,precision=fp8,vae=/v.safetensors").unwrap();
        let wanted = Also {
            name: "fast".into(),
            path: Some("/models/ovis".into()),
            precision: Some(Precision::Fp8),
            vae: Some("/v.safetensors".into()),
            ..Also::default()
        };
        assert_eq!(also, wanted);
        let bare = Also::parse("q4=transformer=/t.gguf,text-encoder=/e,tokenizer=/k").unwrap();
        assert_eq!(bare.path, None);
        assert_eq!(bare.transformer, Some("/t.gguf".into()));
        assert_eq!(Also::parse("half=,precision=BF16").unwrap().path, None);
        assert_eq!(Also::parse("x=/a=b").unwrap().path, Some("/a=b".into()));
        for (text, error) in [
            ("fast", AlsoError::NoName),
            ("=x", AlsoError::Name(String::new())),
            ("a b=x", AlsoError::Name("a b".into())),
            ("a=x,y", AlsoError::Key("y".into())),
            ("a=x,size=y", AlsoError::Key("size=y".into())),
            ("a=x,vae=", AlsoError::Key("vae=".into())),
            ("a=x,vae=1,vae=2", AlsoError::Twice("vae".into())),
            ("a=x,precision=f8", AlsoError::Precision("f8".into())),
        ] {
            assert_eq!(Also::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_main_models() {
        let main = ModelArgs {
            model: Some("/main".into()),
            transformer: None,
            text_encoder: Some("/encoder".into()),
            vae: None,
            tokenizer: None,
        };
        let files = |text| Also::parse(text).unwrap().files(&main);
        let same = files("a=,transformer=/t");
        assert_eq!(same.model, main.model);
        assert_eq!(same.text_encoder, main.text_encoder);
        assert_eq!(same.transformer, Some("/t".into()));
        let other = files("a=/other");
        assert_eq!(other.model, Some("/other".into()));
        assert_eq!(other.text_encoder, None);
    }
}
