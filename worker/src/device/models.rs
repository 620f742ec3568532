//! The models on a device, by name.

use std::collections::HashMap;
use std::sync::Arc;

/// The models that one device's thread has loaded. Today that is one; jobs go to the default.
pub struct Models<B> {
    by_name: HashMap<Arc<str>, B>,
    default: Arc<str>,
}

impl<B> Models<B> {
    /// A default model and others, by name. Of two models with one name, the later counts.
    pub fn new(
        (default, model): (Arc<str>, B),
        others: impl IntoIterator<Item = (Arc<str>, B)>,
    ) -> Self {
        let mut by_name = HashMap::from([(default.clone(), model)]);
        by_name.extend(others);
        Self { by_name, default }
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
        let mut models = Models::new(("a".into(), 1), [("b".into(), 2)]);
        assert_eq!(
            (models.default_name().as_ref(), *models.default_model()),
            ("a", 1)
        );
        *models.get_mut("b").unwrap() += 1;
        assert_eq!((models.get("b"), models.get("c")), (Some(&3), None));
    }
}
