//! The tensors of one module of an adapter.

use std::collections::BTreeMap;
use std::fmt;

use super::key::Role;
use crate::checkpoint::piece::FileTensor;

/// A kind of adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Two thin matrices.
    Lora,
    /// A Kronecker product.
    Lokr,
    /// An element-wise product.
    Loha,
    /// LyCORIS's rotation of rows.
    Oft,
    /// LyCORIS's butterfly of rotations.
    Boft,
    /// peft's rotation of columns.
    PeftOft,
    /// A full difference of a weight.
    Full,
    /// A difference of a norm's weight.
    Norm,
    /// A difference of a bias alone.
    Bias,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lora => "LoRA",
            Self::Lokr => "LoKr",
            Self::Loha => "LoHa",
            Self::Oft | Self::PeftOft => "OFT",
            Self::Boft => "BOFT",
            Self::Full => "full difference",
            Self::Norm => "norm",
            Self::Bias => "bias",
        })
    }
}

/// The tensors of a module by what they are to it.
#[derive(Debug, Default)]
pub(super) struct Module {
    tensors: BTreeMap<Role, FileTensor>,
}

impl Module {
    /// Adds a tensor; returns the earlier one of the same role.
    pub fn insert(&mut self, role: Role, tensor: FileTensor) -> Option<FileTensor> {
        self.tensors.insert(role, tensor)
    }

    /// The tensor of a role.
    pub fn get(&self, role: Role) -> Option<&FileTensor> {
        self.tensors.get(&role)
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (Role, &FileTensor)> {
        self.tensors.iter().map(|(role, tensor)| (*role, tensor))
    }

    /// The kinds that the tensors belong to: one, in a module without contradictions.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self
            .tensors()
            .filter_map(|(role, tensor)| kind(role, tensor))
            .collect();
        kinds.sort();
        kinds.dedup();
        // A bias comes with any of the others.
        if kinds.len() > 1 {
            kinds.retain(|kind| *kind != Kind::Bias);
        }
        kinds
    }

    /// The kind as people call it; DoRA is LoRA with a magnitude.
    pub fn kind_name(&self) -> String {
        match (&self.kinds()[..], self.get(Role::Magnitude)) {
            ([Kind::Lora], Some(_)) => "DoRA".into(),
            ([kind], Some(_)) => format!("{kind} with magnitude"),
            ([kind], None) => kind.to_string(),
            ([], _) => "nothing".into(),
            _ => "several kinds".into(),
        }
    }

    /// The rank of the factors, or the size of the blocks of a rotation.
    pub fn rank(&self) -> Option<usize> {
        let first = |role| self.get(role)?.entry().shape.first().copied();
        let inner = [Role::Down, Role::LokrW2B, Role::LokrW1B, Role::HadaW1B];
        inner.into_iter().find_map(first).or_else(|| {
            let blocks = self.get(Role::OftBlocks)?;
            blocks.entry().shape.last().copied()
        })
    }
}

/// The kind that a tensor belongs to; `None` for what several kinds have.
fn kind(role: Role, tensor: &FileTensor) -> Option<Kind> {
    Some(match role {
        Role::Down | Role::Up | Role::Mid => Kind::Lora,
        Role::LokrW1 | Role::LokrW1A | Role::LokrW1B => Kind::Lokr,
        Role::LokrW2 | Role::LokrW2A | Role::LokrW2B | Role::LokrT2 => Kind::Lokr,
        Role::HadaW1A | Role::HadaW1B | Role::HadaT1 => Kind::Loha,
        Role::HadaW2A | Role::HadaW2B | Role::HadaT2 => Kind::Loha,
        Role::OftBlocks if tensor.entry().shape.len() == 4 => Kind::Boft,
        Role::OftBlocks => Kind::Oft,
        Role::OftTriangles => Kind::PeftOft,
        Role::Diff => Kind::Full,
        Role::NormWeight => Kind::Norm,
        Role::UpBias | Role::DiffBias | Role::NormBias => Kind::Bias,
        Role::Alpha | Role::Magnitude | Role::Rescale => return None,
    })
}
