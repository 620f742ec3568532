//! Which pages stay on the device.

/// Slots that streamed pages of one type take turns in: one in use, one filled, one being filled.
pub const SLOTS: u8 = 3;

/// How often pages are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Visits {
    /// In every denoise step.
    EveryStep,
    /// Once for a portion of a job's steps.
    OncePerPortion,
    /// Once for each encode.
    OncePerPrompt,
}

impl Visits {
    /// All of them, from the most frequent.
    pub const ALL: [Self; 3] = [Self::EveryStep, Self::OncePerPortion, Self::OncePerPrompt];

    /// Whether the first page is used again soon after the last one.
    pub(super) fn repeats(self) -> bool {
        self == Self::EveryStep
    }
}

/// The blocks whose weights are pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Double-stream blocks; a block's pages are the image's stream and the text's.
    Double,
    /// Single-stream blocks.
    Single,
    /// The modulations of double-stream blocks, pages as in [`Double`](Self::Double).
    DoubleModulators,
    /// The modulations of single-stream blocks.
    SingleModulators,
    /// The text encoder's layers.
    EncoderLayers,
}

impl Group {
    /// All groups, in the order of [`Residence::resident`].
    pub const ALL: [Self; 5] = [
        Self::Double,
        Self::Single,
        Self::DoubleModulators,
        Self::SingleModulators,
        Self::EncoderLayers,
    ];

    /// How often its pages are used.
    pub fn visits(self) -> Visits {
        match self {
            Self::Double | Self::Single => Visits::EveryStep,
            Self::DoubleModulators | Self::SingleModulators => Visits::OncePerPortion,
            Self::EncoderLayers => Visits::OncePerPrompt,
        }
    }
}

/// Which weights stay on the device, and where the others are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residence {
    /// By [group](Group::ALL), which of its pages stay, in the order of its blocks. Pages that are
    /// not listed stay.
    pub resident: Vec<Vec<bool>>,
    /// Whether the VAE's weights stay; otherwise they are loaded for each use.
    pub vae_resident: bool,
    /// Most bytes of pinned host memory for the pages that do not stay.
    pub pinned: u64,
}

impl Residence {
    /// Everything stays on the device, and what has to leave it later may be pinned.
    pub const ALL: Self = Self {
        resident: Vec::new(),
        vae_resident: true,
        pinned: u64::MAX,
    };

    /// Whether a page of a group stays.
    pub fn stays(&self, group: Group, page: usize) -> bool {
        let index = Group::ALL.iter().position(|&known| known == group);
        let pages = index.and_then(|index| self.resident.get(index));
        pages
            .and_then(|pages| pages.get(page))
            .copied()
            .unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_not_listed_stay() {
        let residence = Residence {
            resident: vec![vec![true, false], vec![false]],
            ..Residence::ALL
        };
        assert!(residence.stays(Group::Double, 0));
        assert!(!residence.stays(Group::Double, 1));
        assert!(residence.stays(Group::Double, 2));
        assert!(!residence.stays(Group::Single, 0));
        assert!(residence.stays(Group::EncoderLayers, 0));
    }
}
