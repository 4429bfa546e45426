//! The configuration that the machine itself keeps: methods of Basalt's own, as SPDK leaves that to
//! its client (`save_config`), which has files.

use alloc::rc::Rc;
use alloc::vec::Vec;

use basalt_reactor::yield_now;
use serde_json::Value;

use super::framework::SUBSYSTEMS;
use super::object;
use crate::kept::{Keeper, Kept};
use crate::{Context, Outcome, Params, Router, Rpc, RpcError, When, errno};

/// How often is begun again because the configuration has changed meanwhile.
const TRIES: u32 = 16;

const SAVE: &str = "framework_save_config";
const DELETE: &str = "framework_delete_saved_config";

pub(super) fn register(router: &mut Router) {
    for name in [SAVE, DELETE, "framework_get_saved_config"] {
        router.register_async(name, When::Any, saved_config);
    }
}

/// Saves the configuration or drops what is saved, if that was asked for; what is saved then.
async fn saved_config(cx: Context, params: Params) -> Outcome {
    params.finish()?;
    let keeper = keeper(&cx)?;
    let text = match cx.method() {
        SAVE => Some(whole(cx.rpc(), keeper.bytes_max()?).await?),
        DELETE => Some(Vec::new()),
        _ => None,
    };
    Ok(to_json(&keeper.save(text.as_deref()).await?))
}

fn keeper(cx: &Context) -> Result<Rc<Keeper>, RpcError> {
    cx.service::<Keeper>().map_err(|_| {
        let message = "this machine keeps no configuration: save it elsewhere";
        RpcError::errno(errno::EOPNOTSUPP, message)
    })
}

fn to_json(kept: &Kept) -> Value {
    object(&mut [
        ("bdev_name", kept.bdev_name.as_str().into()),
        ("generation", kept.generation.into()),
        ("bytes", kept.bytes.into()),
        ("bytes_max", kept.bytes_max.into()),
    ])
}

/// The configuration as it is now, in the form that a machine is handed it in, one call a line.
async fn whole(rpc: &Rc<Rpc>, bytes_max: usize) -> Result<Vec<u8>, RpcError> {
    for _ in 0..TRIES {
        let changes = rpc.saved_changes();
        let mut writer = Writer { text: Vec::new(), subsystem: 0, call: 0 };
        // Call by call, with other work between them.
        while writer.step(rpc)? {
            check_len(writer.text.len(), bytes_max)?;
            yield_now().await;
        }
        // All of it is of one moment.
        if rpc.saved_changes() == changes {
            return Ok(writer.text);
        }
    }
    let message = "the configuration keeps changing: try again once others are done with it";
    Err(RpcError::errno(errno::EBUSY, message))
}

/// Writes a configuration.
struct Writer {
    text: Vec<u8>,
    /// Where it is.
    subsystem: usize,
    call: usize,
}

impl Writer {
    /// Writes one more call, or the end of a subsystem; whether there is more after it.
    fn step(&mut self, rpc: &Rpc) -> Result<bool, RpcError> {
        let Some((name, _)) = SUBSYSTEMS.get(self.subsystem) else {
            self.put(&["\n]}\n"]);
            return Ok(false);
        };
        if self.call == 0 {
            let before = if self.subsystem == 0 { "{\"subsystems\": [\n" } else { ",\n" };
            self.put(&[before, "{\"subsystem\": \"", name, "\", \"config\": ["]);
        }
        let separator = if self.call == 0 { "\n" } else { ",\n" };
        let Some(call) = rpc.saved_call(name, self.call) else {
            if *name == "bdev" {
                self.put(&[separator, "{\"method\":\"bdev_wait_for_examine\"}"]);
            }
            self.put(&["]}"]);
            (self.subsystem, self.call) = (self.subsystem + 1, 0);
            return Ok(true);
        };
        self.put(&[separator]);
        let call = serde_json::to_vec(&call);
        self.text.extend(call.map_err(|error| RpcError::errno(errno::EINVAL, error))?);
        self.call += 1;
        Ok(true)
    }

    fn put(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.text.extend_from_slice(part.as_bytes()));
    }
}

fn check_len(bytes: usize, bytes_max: usize) -> Result<(), RpcError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let message = format_args!(
        "the configuration takes more than the {bytes_max} bytes that its partition has room for: \
         keep it elsewhere (save_config), or make the partition larger if it has less than 1 MiB"
    );
    Err(RpcError::errno(errno::ENOSPC, message))
}
