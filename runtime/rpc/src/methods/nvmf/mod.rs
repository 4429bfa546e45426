//! The NVMe-oF target.

use crate::Router;

pub(super) fn register(_: &mut Router) {}
