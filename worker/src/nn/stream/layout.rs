//! A page: tensors of one type, one behind the other.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

/// Bytes that parts are aligned to, as the driver's own allocations are.
const ALIGNMENT: usize = 256;

/// Where the tensors of a page lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// Type of all elements.
    pub dtype: DType,
    /// The elements of each tensor; every part starts at a multiple of 256 bytes.
    pub parts: Vec<Range<usize>>,
    /// Number of elements with the gaps between the parts.
    pub elements: usize,
    shapes: Vec<Vec<usize>>,
}

impl PageLayout {
    /// The layout of a page with these tensors, in their order. `None` if there is none, they differ
    /// in type, or one is not contiguous.
    pub fn of(tensors: &[&Tensor]) -> Option<Self> {
        let dtype = tensors.first()?.dtype();
        let fits = |tensor: &&Tensor| tensor.dtype() == dtype && tensor.is_contiguous();
        if !tensors.iter().all(fits) {
            return None;
        }
        let step = (ALIGNMENT / dtype.size_in_bytes()).max(1);
        let mut layout = Self {
            dtype,
            parts: Vec::with_capacity(tensors.len()),
            elements: 0,
            shapes: tensors
                .iter()
                .map(|tensor| tensor.dims().to_vec())
                .collect(),
        };
        for tensor in tensors {
            let start = layout.elements.next_multiple_of(step);
            layout.elements = start + tensor.elem_count();
            layout.parts.push(start..layout.elements);
        }
        Some(layout)
    }

    /// Bytes of the page.
    pub fn bytes(&self) -> usize {
        self.elements * self.dtype.size_in_bytes()
    }

    /// The bytes of a range of elements.
    pub fn byte_range(&self, elements: &Range<usize>) -> Range<usize> {
        let size = self.dtype.size_in_bytes();
        elements.start * size..elements.end * size
    }

    /// The page's tensors as views of `page`, a contiguous vector with at least as many elements.
    ///
    /// # Errors
    /// `page` has too few.
    pub fn views(&self, page: &Tensor) -> Result<Vec<Tensor>> {
        let parts = self.parts.iter().zip(&self.shapes);
        parts
            .map(|(part, shape)| page.narrow(0, part.start, part.len())?.reshape(&shape[..]))
            .collect()
    }

    /// Tensors of the same shapes that take no memory, for a page that is not on the device.
    ///
    /// # Errors
    /// The type has no zero.
    pub fn placeholders(&self) -> Result<Vec<Tensor>> {
        let zero = Tensor::zeros((), self.dtype, &Device::Cpu)?;
        let shapes = self.shapes.iter();
        shapes.map(|shape| zero.broadcast_as(&shape[..])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_aligned_and_read_back() {
        let first = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap();
        let first = first.reshape((2, 3)).unwrap();
        let second = Tensor::arange(10f32, 14.0, &Device::Cpu).unwrap();
        let layout = PageLayout::of(&[&first, &second]).unwrap();
        assert_eq!(layout.parts, [0..6, 64..68]);
        assert_eq!((layout.elements, layout.bytes()), (68, 272));
        assert_eq!(layout.byte_range(&layout.parts[1]), 256..272);
        let page = Tensor::arange(0f32, 100.0, &Device::Cpu).unwrap();
        let views = layout.views(&page).unwrap();
        assert_eq!(views[0].dims(), [2, 3]);
        assert_eq!(views[1].to_vec1::<f32>().unwrap(), [64.0, 65.0, 66.0, 67.0]);
        let empty = layout.placeholders().unwrap();
        assert_eq!(empty[0].dims(), [2, 3]);
        assert_eq!(empty[0].stride(), [0, 0]);
    }

    #[test]
    fn other_types_and_strides_have_no_layout() {
        let wide = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let half = wide.to_dtype(DType::BF16).unwrap();
        assert!(PageLayout::of(&[]).is_none());
        assert!(PageLayout::of(&[&wide, &half]).is_none());
        assert!(PageLayout::of(&[&wide.t().unwrap()]).is_none());
    }
}
