//! The models on a device, by name.

use std::collections::HashMap;
use std::sync::Arc;

/// The models that one device's thread has loaded. Today that is one; jobs go to the default.
pub struct Models<B> {
    by_name: HashMap<Arc<str>, B>,
    default: Arc<str>,
}

impl<B> Models<B> {
    /// One model, which is the default.
    pub fn one(name: &str, model: B) -> Self {
        let default: Arc<str> = name.into();
        Self {
            by_name: HashMap::from([(default.clone(), model)]),
            default,
        }
    }

    /// Adds a model, in place of an earlier one of the same name.
    pub fn insert(&mut self, name: &str, model: B) {
        self.by_name.insert(name.into(), model);
    }

    /// The name of the model that jobs go to.
    pub fn default_name(&self) -> &Arc<str> {
        &self.default
    }

    /// A model by name.
    pub fn get(&self, name: &str) -> Option<&B> {
        self.by_name.get(name)
    }

    /// A model by name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut B> {
        self.by_name.get_mut(name)
    }

    /// The default model.
    pub fn default_model(&self) -> &B {
        self.get(&self.default)
            .unwrap_or_else(|| unreachable!("the default model is never removed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_found_by_name() {
        let mut models = Models::one("a", 1);
        models.insert("b", 2);
        assert_eq!(
            (models.default_name().as_ref(), *models.default_model()),
            ("a", 1)
        );
        *models.get_mut("b").unwrap() += 1;
        assert_eq!((models.get("b"), models.get("c")), (Some(&3), None));
    }
}
