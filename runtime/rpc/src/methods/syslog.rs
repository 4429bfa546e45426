//! Where lines of the log are sent to: methods of Basalt's own, as SPDK leaves that to its host's
//! syslog.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use core::fmt;

use basalt_net::{Endpoint, IpAddress};
use serde_json::Value;

use super::object;
use crate::{Context, Outcome, Params, Router, RpcError, When};

/// The registered port (RFC 5426 §3.3).
const PORT: u16 = 514;
/// Most bytes of a host's name (RFC 5424 §6).
const HOSTNAME_BYTES_MAX: usize = 255;
/// The facilities by number (RFC 5424 §6.2.1), as Linux's `syslog.h` names them; `-` has no name.
const FACILITIES: &str = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp \
                          - - - - local0 local1 local2 local3 local4 local5 local6 local7";
/// The same for people.
const FACILITIES_TOLD: &str = "kern, user, mail, daemon, auth, syslog, lpr, news, uucp, cron, \
                               authpriv, ftp, local0 to local7";
/// That of SPDK.
const FACILITY: &str = "local7";

/// Where lines of the log are sent to, and as whose.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyslogSetting {
    /// The server.
    pub server: Endpoint,
    /// What kind of program says it (RFC 5424 §6.2.1), from 0 to 23.
    pub facility: u8,
    /// The machine's name; its address if there is none.
    pub hostname: Option<String>,
}

/// What has become of the lines.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyslogState {
    /// Where they are sent to now.
    pub setting: Option<SyslogSetting>,
    /// Lines sent.
    pub lines_sent: u64,
    /// Lines that the log no longer had when they were to be sent, or that could not be sent.
    pub lines_lost: u64,
}

type Set = Box<dyn Fn(Option<SyslogSetting>) -> Result<(), RpcError>>;
type Get = Box<dyn Fn() -> SyslogState>;

/// How the methods reach what sends lines of the log: a service of the boot core.
pub struct SyslogControl {
    set: Set,
    get: Get,
}

impl SyslogControl {
    /// A control of two parts: one has lines sent from now on as a setting says, or no longer if
    /// there is none; the other tells of it.
    pub fn new(
        set: impl Fn(Option<SyslogSetting>) -> Result<(), RpcError> + 'static,
        get: impl Fn() -> SyslogState + 'static,
    ) -> Self {
        Self { set: Box::new(set), get: Box::new(get) }
    }
}

impl fmt::Debug for SyslogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.get)().fmt(f)
    }
}

pub(super) fn register(router: &mut Router) {
    router.register("log_set_syslog", When::Any, set_syslog);
    router.register("log_get_syslog", When::Any, get_syslog);
}

fn set_syslog(cx: Context, params: Params) -> Outcome {
    let setting = read_setting(params)?;
    let is_set = setting.is_some();
    (cx.service::<SyslogControl>()?.set)(setting)?;
    if is_set {
        cx.remember("log", "syslog");
    } else {
        cx.forget("log", "syslog");
    }
    Ok(Value::Bool(true))
}

fn read_setting(mut params: Params) -> Result<Option<SyslogSetting>, RpcError> {
    let is_enabled = params.optional("enabled")?.unwrap_or(true);
    let address: Option<String> = params.optional("address")?;
    let port = params.optional("port")?.unwrap_or(PORT);
    let facility: Option<String> = params.optional("facility")?;
    let hostname: Option<String> = params.optional("hostname")?;
    let server = match address {
        Some(text) => read_address(&params, &text)?,
        // It is missing, which is said as of any other.
        None if is_enabled => params.required::<String>("address").map(|_| None)?,
        None => None,
    };
    if port == 0 {
        params.refuse(format_args!("port"), format_args!("a port is from 1 to 65535"))?;
    }
    let facility = read_facility(&params, facility.as_deref().unwrap_or(FACILITY))?;
    if let Some(name) = &hostname {
        check_hostname(&params, name)?;
    }
    params.finish()?;
    let server = server.filter(|_| is_enabled);
    let to = |address| Endpoint::new(address, port);
    Ok(server.map(|address| SyslogSetting { server: to(address), facility, hostname }))
}

fn read_address(params: &Params, text: &str) -> Result<Option<IpAddress>, RpcError> {
    let address = text.parse().ok();
    let is_server = |address: &IpAddress| !address.is_unspecified() && !address.is_multicast();
    if !address.as_ref().is_some_and(is_server) {
        let reason = format_args!("'{text}' is not the IP address of a server");
        params.refuse(format_args!("address"), reason)?;
    }
    Ok(address)
}

fn read_facility(params: &Params, name: &str) -> Result<u8, RpcError> {
    let number = FACILITIES.split(' ').position(|known| known == name && known != "-");
    if number.is_none() {
        let reason = format_args!("'{name}' is none of {FACILITIES_TOLD}");
        params.refuse(format_args!("facility"), reason)?;
    }
    Ok(number.unwrap_or(0) as u8)
}

/// RFC 5424 §6: signs of ASCII that can be seen.
fn check_hostname(params: &Params, name: &str) -> Result<(), RpcError> {
    let is_seen = name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_seen && (1..=HOSTNAME_BYTES_MAX).contains(&name.len()) {
        return Ok(());
    }
    let form = "from 1 to 255 letters, digits and signs of ASCII, without spaces";
    params.refuse(format_args!("hostname"), format_args!("it has {form}"))
}

fn get_syslog(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let SyslogState { setting, lines_sent, lines_lost } = (cx.service::<SyslogControl>()?.get)();
    let setting = setting.as_ref();
    let facility = setting.and_then(|of| FACILITIES.split(' ').nth(of.facility.into()));
    Ok(object(&mut [
        ("enabled", setting.is_some().into()),
        ("address", setting.map(|of| of.server.ip().to_string()).into()),
        ("port", setting.map(|of| of.server.port()).into()),
        ("facility", facility.into()),
        ("hostname", setting.and_then(|of| of.hostname.clone()).into()),
        ("lines_sent", lines_sent.into()),
        ("lines_lost", lines_lost.into()),
    ]))
}
