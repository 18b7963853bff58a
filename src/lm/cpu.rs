//! The CPU engine: forward, backward and step over slices, with buffers that are kept and reused.

use super::{Edit, Engine, HookPoint, Lm, LmConfig};

/// A model on the CPU.
pub struct CpuEngine {
    lm: Lm,
}

impl CpuEngine {
    pub fn new(lm: Lm) -> Self {
        CpuEngine { lm }
    }

    pub fn lm(&self) -> &Lm {
        &self.lm
    }

    pub fn into_lm(self) -> Lm {
        self.lm
    }
}

impl Engine for CpuEngine {
    fn config(&self) -> &LmConfig {
        &self.lm.config
    }

    fn forward_to(&mut self, _ids: &[u32], _window: usize, _hook: HookPoint, _rows: &mut [f32]) {
        todo!()
    }

    fn nll(&mut self, _ids: &[u32], _targets: &[u32], _window: usize, _edit: Option<Edit>, _nll: &mut [f32]) {
        todo!()
    }

    fn logits(&mut self, _ids: &[u32], _window: usize, _positions: &[usize], _edit: Option<Edit>, _logits: &mut [f32]) {
        todo!()
    }
}
