//! The memory of NVIDIA's GPUs behind [`DeviceMemory`].

use candle_core::{Device, Result};

use super::copier::{link_speed, CudaCopier};
use super::device::arithmetic;
use super::seam::Cuda;
use super::{nvml, pool};
use crate::nn::memory::{DeviceMemory, PoolBytes, ProcessBytes};
use crate::nn::stream::Copier;

impl DeviceMemory for Cuda {
    fn copier(&self, device: &Device) -> Result<Option<Box<dyn Copier>>> {
        match device {
            Device::Cuda(device) => Ok(Some(Box::new(CudaCopier::new(device)?))),
            _ => Ok(None),
        }
    }

    fn limit(&self, device: &Device, bytes: Option<u64>) -> Result<bool> {
        match device {
            Device::Cuda(device) => pool::limit(device, bytes),
            _ => Ok(false),
        }
    }

    fn set_transit(&self, device: &Device, is_on: bool) -> Result<bool> {
        match device {
            Device::Cuda(device) => pool::set_transit(device, is_on),
            _ => Ok(false),
        }
    }

    fn pool(&self, device: &Device) -> Option<PoolBytes> {
        match device {
            Device::Cuda(device) => pool::bytes(device),
            _ => None,
        }
    }

    fn processes(&self, device: &Device) -> Option<ProcessBytes> {
        match device {
            Device::Cuda(device) => nvml::processes(device),
            _ => None,
        }
    }

    fn arithmetic(&self, device: &Device) -> Option<f64> {
        match device {
            Device::Cuda(device) => arithmetic(device),
            _ => None,
        }
    }

    fn link(&self, device: &Device) -> Result<Option<f64>> {
        match device {
            Device::Cuda(device) => link_speed(device).map(Some),
            _ => Ok(None),
        }
    }
}
