//! All that a plan is computed from.

use super::requests::{Requests, Target};

/// Bytes of a budget that stay free: for modules that the driver loads late, what it rounds up, and
/// gaps between tensors, which took up to 100 MiB when a full pool was tried.
pub const MARGIN: u64 = 160 << 20;

/// Slots that streamed pages of one type take turns in: one in use, one filled, one being filled.
pub const SLOTS: u64 = 3;

/// Steps whose modulations are made at once.
pub use crate::pipeline::modulations::SIGMAS_PER_PORTION as STEPS_PER_PORTION;

/// Least host memory that is left to other programs: a part of what is free, and bytes.
const HOST_RESERVE: (u64, u64) = (16, 1 << 30);

/// Bytes a second at which pages come from files in the system's cache: through a pinned buffer,
/// copied by one thread.
const FROM_FILE: f64 = 10e9;

/// How often the pages of a group are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visits {
    /// In every denoise step.
    EveryStep,
    /// Once for [`STEPS_PER_PORTION`] steps.
    OncePerPortion,
    /// Once for each encode.
    OncePerPrompt,
}

/// Pages of one size: the large weights of equal layers, which are on the device together or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the pages are, for people.
    pub name: &'static str,
    /// How often they are used.
    pub visits: Visits,
    /// Type of the elements: pages of one type share slots.
    pub kind: &'static str,
    /// Bytes of a page.
    pub page: u64,
    /// Number of pages.
    pub pages: usize,
    /// Pages that are used together.
    pub together: usize,
    /// Seconds of arithmetic with the pages that are used together; 0 where copies cannot hide
    /// behind it.
    pub seconds: f64,
    /// Whether the pages' bytes are those of a file, which can then be read instead of kept in host
    /// memory.
    pub is_in_file: bool,
}

impl Group {
    /// Bytes of all pages.
    pub fn bytes(&self) -> u64 {
        self.page * self.pages as u64
    }
}

/// The host's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Bytes that are free; `None` if unknown.
    pub free: Option<u64>,
    /// Whether the driver can pin host memory.
    pub may_pin: bool,
}

impl HostFacts {
    /// Bytes that pages may take, pinned or not.
    fn room(self) -> u64 {
        self.free.map_or(u64::MAX, |free| {
            let (part, least) = HOST_RESERVE;
            free.saturating_sub((free / part).max(least))
        })
    }

    /// Bytes that may be pinned: pinned memory cannot be swapped out, so a quarter of what is free
    /// stays free.
    fn pinned_room(self) -> u64 {
        match (self.may_pin, self.free) {
            (false, _) => 0,
            (true, None) => u64::MAX,
            (true, Some(free)) => self.room().min(free / 4 * 3),
        }
    }
}

/// Where the bytes of pages are that are not resident, and how long it takes to copy them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Homes {
    /// Bytes in pinned host memory.
    pub pinned: u64,
    /// Bytes in other host memory.
    pub pageable: u64,
    /// Bytes that are read from files.
    pub mapped: u64,
    /// By group, seconds to copy all of its pages that are not resident.
    pub seconds: Vec<f64>,
}

/// A model, a machine and a target.
#[derive(Clone)]
pub struct Facts {
    /// Name of the precision.
    pub precision: String,
    /// Bytes that the process may take of the GPU's memory, as the driver counts it.
    pub budget: u64,
    /// Bytes of the driver's context, kernels and libraries.
    pub overhead: u64,
    /// Bytes of weights that always stay on the GPU.
    pub fixed: u64,
    /// Bytes of the VAE's weights.
    pub vae: u64,
    /// Bytes of the largest weight that is opened for one product.
    pub scratch: u64,
    /// The pages: of double-stream blocks, single-stream blocks, the modulations of both, and the
    /// text encoder's layers.
    pub groups: Vec<Group>,
    /// What jobs take.
    pub requests: Requests,
    /// The host's memory.
    pub host: HostFacts,
    /// Bytes a second from pinned host memory to the GPU.
    pub link: f64,
    /// Seconds of a step of the target with all weights resident.
    pub step: f64,
    /// Steps of an image.
    pub steps: usize,
    /// What is made.
    pub target: Target,
}

impl Facts {
    /// Where `streamed` bytes of each group can be. `None` if they are in no file and the host has
    /// no room for them.
    pub fn homes(&self, streamed: &[u64]) -> Option<Homes> {
        let mut homes = Homes::default();
        let (mut pinnable, mut room) = (self.host.pinned_room(), self.host.room());
        for (group, &bytes) in self.groups.iter().zip(streamed) {
            let pinned = bytes.min(pinnable);
            pinnable -= pinned;
            room = room.checked_sub(pinned)?;
            let rest = bytes - pinned;
            match group.is_in_file {
                true => homes.mapped += rest,
                false => {
                    room = room.checked_sub(rest)?;
                    homes.pageable += rest;
                }
            }
            homes.pinned += pinned;
            let slow = self.link.min(FROM_FILE);
            let seconds = pinned as f64 / self.link + rest as f64 / slow;
            homes.seconds.push(seconds);
        }
        Some(homes)
    }

    /// How often pages are used while an image is made: its steps, their portions, one encode.
    pub fn visits(&self, visits: Visits) -> usize {
        match visits {
            Visits::EveryStep => self.steps,
            Visits::OncePerPortion => self.steps.div_ceil(STEPS_PER_PORTION),
            Visits::OncePerPrompt => 1,
        }
    }

    /// The same for another target.
    pub fn with_target(&self, target: Target) -> Self {
        Self {
            target,
            ..self.clone()
        }
    }
}
