//! What a loaded pipeline can do, as clients are told.

use ovis_protocol::Capabilities;

use super::load::Pipeline;

impl Pipeline {
    /// What the loaded checkpoint can do: its operations, limits and samplers.
    pub fn capabilities(&self) -> Capabilities {
        self.abilities().capabilities(self.name(), self.placement())
    }
}
