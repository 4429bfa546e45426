//! The NVMe-oF target: its transport, subsystems, namespaces, listeners and hosts.

mod config;
mod discovery;
mod hosts;
mod listeners;
mod namespaces;
mod params;
mod show;
mod transport;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;

use basalt_nvmf::{
    ConfigError, DISCOVERY_NQN, HostPolicy, SubsystemInfo, SubsystemOptions, Target,
};
use serde_json::Value;

use self::params::{SubsystemParams, read_nqn};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    config::register(router);
    transport::register(router);
    router.register("nvmf_create_subsystem", When::Runtime, create_subsystem);
    router.register("nvmf_delete_subsystem", When::Runtime, delete_subsystem);
    namespaces::register(router);
    listeners::register(router);
    hosts::register(router);
    discovery::register(router);
    show::register(router);
}

fn create_subsystem(cx: Context, params: Params) -> Outcome {
    let wanted = SubsystemParams::read(params)?;
    let default = SubsystemOptions::default();
    let options = SubsystemOptions {
        serial: wanted.serial_number.unwrap_or(default.serial),
        model: wanted.model_number.unwrap_or(default.model),
        namespaces_max: wanted.max_namespaces.unwrap_or(default.namespaces_max),
        cntlid_min: wanted.min_cntlid.unwrap_or(default.cntlid_min),
        cntlid_max: wanted.max_cntlid.unwrap_or(default.cntlid_max),
        ana_reporting: wanted.ana_reporting,
        nssr: wanted.nssr,
    };
    let target = cx.service::<Target>()?;
    target.create_subsystem(&wanted.nqn, options).map_err(|error| match error {
        ConfigError::TooMany => {
            let nqn = &wanted.nqn;
            let message = format!("Unable to create subsystem {nqn}: {error}");
            RpcError::new(RpcError::INTERNAL, message)
        }
        error => config_error(error),
    })?;
    if wanted.allow_any_host {
        target.allow_any_host(&wanted.nqn, HostPolicy::Any).map_err(config_error)?;
    }
    cx.remember("nvmf", subsystem_key(&wanted.nqn));
    Ok(Value::Bool(true))
}

fn delete_subsystem(cx: Context, params: Params) -> Outcome {
    let nqn = read_nqn(params)?;
    if nqn == DISCOVERY_NQN {
        return Err(RpcError::params("the discovery subsystem cannot be deleted"));
    }
    cx.service::<Target>()?.delete_subsystem(&nqn).map_err(config_error)?;
    cx.forget("nvmf", &subsystem_key(&nqn));
    Ok(Value::Bool(true))
}

/// The subsystem of that name as it is now; not the discovery subsystem.
fn subsystem(target: &Rc<Target>, nqn: &str) -> Result<SubsystemInfo, RpcError> {
    let found = target.subsystems().into_iter().find(|subsystem| subsystem.nqn == nqn);
    found.ok_or_else(|| no_such_subsystem(nqn))
}

fn no_such_subsystem(nqn: &str) -> RpcError {
    RpcError::errno(errno::ENODEV, format_args!("Unable to find subsystem with NQN {nqn}"))
}

/// What the call that made the subsystem is saved under. A name may hold a slash but no zero byte,
/// which therefore keeps one subsystem's calls from passing for those of another.
fn subsystem_key(nqn: &str) -> String {
    format!("{nqn}\0")
}

/// What the call that made a part of the subsystem is saved under.
fn part_key(nqn: &str, kind: &str, name: &str) -> String {
    format!("{nqn}\0/{kind} {name}\0")
}

fn config_error(error: ConfigError) -> RpcError {
    let errno = match error {
        ConfigError::BadNqn
        | ConfigError::BadText
        | ConfigError::BadRange
        | ConfigError::BadAnaGroup
        | ConfigError::AutoVisible
        | ConfigError::BadNsid => return RpcError::params(error),
        ConfigError::BadBlockSize
        | ConfigError::Zoned
        | ConfigError::AnaDisabled
        | ConfigError::AnaLost => errno::EINVAL,
        ConfigError::Exists | ConfigError::ReferralExists => errno::EEXIST,
        ConfigError::NoSuchSubsystem => errno::ENODEV,
        ConfigError::NoSuchListener
        | ConfigError::NoSuchNamespace
        | ConfigError::NoSuchReferral => errno::ENOENT,
        ConfigError::TooMany => errno::ENOSPC,
        ConfigError::PortUnavailable => errno::EADDRINUSE,
        ConfigError::CoreSilent => errno::EIO,
        ConfigError::Busy => errno::ETIMEDOUT,
    };
    RpcError::errno(errno, error)
}
