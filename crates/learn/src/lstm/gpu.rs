//! The GPU of this process, if there is one: it is looked for once, and not asked again after it has failed.

#[cfg(feature = "gpu")]
pub(super) use found::{Gpu, find, gave_out};

#[cfg(not(feature = "gpu"))]
pub(super) use absent::{Gpu, find, gave_out};

#[cfg(not(feature = "gpu"))]
mod absent {
    use burn::tensor::Device;

    pub(in crate::lstm) struct Gpu {
        pub(in crate::lstm) device: Device,
        pub(in crate::lstm) name: String,
    }

    pub(in crate::lstm) fn find() -> Result<Gpu, String> {
        Err("this build knows no GPU; one with the feature `gpu` does".to_owned())
    }

    pub(in crate::lstm) fn gave_out(_: &str) {}
}

#[cfg(feature = "gpu")]
mod found {
    use std::{
        panic::catch_unwind,
        sync::{Mutex, PoisonError},
    };

    use burn::tensor::{
        Device,
        wgpu::{WgpuSetup, wgpu::DeviceType},
    };

    use crate::lstm::place::words;

    /// A GPU that answered.
    #[derive(Clone)]
    pub(in crate::lstm) struct Gpu {
        pub(in crate::lstm) device: Device,
        /// What its driver calls it, and the way to it.
        pub(in crate::lstm) name: String,
        #[cfg_attr(not(test), expect(dead_code, reason = "tests take the GPU away by it"))]
        pub(in crate::lstm) setup: WgpuSetup,
    }

    static GPU: Mutex<Option<Result<Gpu, String>>> = Mutex::new(None);

    /// Names the adapter that is to be taken; read by the framework.
    const NAMED: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

    /// # Errors
    /// In words, why there is none.
    pub(in crate::lstm) fn find() -> Result<Gpu, String> {
        let mut gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
        gpu.get_or_insert_with(look).clone()
    }

    /// It is not asked again in this process.
    pub(in crate::lstm) fn gave_out(why: &str) {
        let mut gpu = GPU.lock().unwrap_or_else(PoisonError::into_inner);
        *gpu = Some(Err(format!("the GPU failed before: {why}")));
    }

    fn look() -> Result<Gpu, String> {
        let found = catch_unwind(|| Device::wgpu_options().init_with_setup());
        let found = found.map_err(|panic| format!("the GPU can't be used: {}", words(panic.as_ref())))?;
        let (device, setup) = found.map_err(|error| format!("no GPU can be used: {error}"))?;
        let info = setup.adapter.get_info();
        let name = format!("{} ({})", info.name, info.backend);
        // A driver that computes on the CPU is slower than the CPU; a test takes it, and who names it.
        let is_wanted =
            info.device_type != DeviceType::Cpu || std::env::var_os(NAMED).is_some() || cfg!(test);
        if !is_wanted {
            return Err(format!("there is no GPU, only {name}, which computes on the CPU"));
        }
        Ok(Gpu { device: device.autodiff(), name, setup })
    }
}
