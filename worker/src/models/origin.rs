//! Reads the bytes of a weight from its checkpoint again.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::{bail, DType, Error, Result};

use crate::checkpoint::{ModelTensor, Piece, StoredType};
use crate::nn::HostBytes;

/// The bytes of pieces of mapped files, one after another.
#[derive(Debug)]
struct Pieces(Vec<Piece>);

/// The bytes of tensors, one after another, as a device has them that keeps them in `dtype`. `None`
/// if they are stored in another type, or not in a mapped file.
pub(super) fn origin(tensors: &[&ModelTensor], dtype: DType) -> Option<Arc<dyn HostBytes>> {
    let stored = match dtype {
        DType::F32 => StoredType::F32,
        DType::BF16 => StoredType::Bf16,
        _ => return None,
    };
    let pieces = tensors.iter().flat_map(|tensor| &tensor.pieces);
    let pieces: Vec<Piece> = pieces.cloned().collect();
    let is_mapped =
        |piece: &Piece| *piece.stored() == stored && matches!(piece.bytes(), Ok(Cow::Borrowed(_)));
    pieces
        .iter()
        .all(is_mapped)
        .then(|| Arc::new(Pieces(pieces)) as Arc<dyn HostBytes>)
}

impl HostBytes for Pieces {
    fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.byte_count() as usize).sum()
    }

    fn read(&self, from: usize, mut into: &mut [u8]) -> Result<()> {
        let mut skip = from;
        for piece in &self.0 {
            let bytes = piece.bytes().map_err(Error::wrap)?;
            let start = skip.min(bytes.len());
            skip -= start;
            let count = into.len().min(bytes.len() - start);
            let (now, later) = std::mem::take(&mut into).split_at_mut(count);
            now.copy_from_slice(&bytes[start..start + count]);
            into = later;
        }
        match into.is_empty() {
            true => Ok(()),
            false => bail!("{} bytes of a weight are missing in its files", into.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::test_files::{write_checkpoint, Naming};
    use crate::checkpoint::{Checkpoint, CheckpointArgs};

    #[test]
    fn any_range_is_read_across_pieces() {
        let folder = tempfile::tempdir().unwrap();
        write_checkpoint(folder.path(), Naming::Diffusers);
        let checkpoint = Checkpoint::open(&CheckpointArgs {
            model: Some(folder.path().to_owned()),
            ..CheckpointArgs::default()
        });
        let part = checkpoint.unwrap().transformer.unwrap().tensors;
        let tensor = part.tensor("single_blocks.0.linear1.weight").unwrap();
        assert!(tensor.pieces.len() > 1);
        let pieces = tensor.pieces.iter();
        let bytes: Vec<u8> = pieces
            .flat_map(|piece| piece.bytes().unwrap().into_owned())
            .collect();
        assert!(origin(&[tensor], DType::BF16).is_none());
        let origin = origin(&[tensor], DType::F32).unwrap();
        assert_eq!(origin.len(), bytes.len());
        for (from, count) in [
            (0, bytes.len()),
            (5, bytes.len() - 9),
            (bytes.len() - 3, 3),
            (7, 0),
        ] {
            let mut read = vec![0; count];
            origin.read(from, &mut read).unwrap();
            assert_eq!(read, bytes[from..from + count]);
        }
        assert!(origin.read(bytes.len() - 3, &mut [0; 4]).is_err());
    }
}
