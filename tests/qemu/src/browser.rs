//! A browser without a window: Debian's Chromium, led by its driver (W3C WebDriver 2, of which a
//! few commands, and Chromium's own for what a screen is like).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, bail, ensure};
use basalt_runner::{launch, packages};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::basalt::free_ports;
use crate::host;

/// How long the driver may take for any answer: emulated guests leave the browser little time.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL_PERIOD: Duration = Duration::from_millis(200);
/// Nothing but the page: no updates, no services, no network but what the page asks for.
const ARGUMENTS: &str = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --disable-extensions \
    --hide-scrollbars --remote-debugging-pipe";

/// What a screen is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Screen {
    /// Width and height, in pixels of CSS.
    pub size: (u32, u32),
    /// What `prefers-color-scheme` says.
    pub scheme: &'static str,
}

/// A running browser with one page; ended when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    agent: Agent,
    /// Where the driver listens.
    base: String,
    /// The session's part of the address; empty as long as there is none.
    session: String,
    profile: TempDir,
}

impl Browser {
    /// Starts one, installed at the first call.
    ///
    /// # Panics
    /// It cannot be installed or started.
    #[must_use]
    pub fn start() -> Self {
        Self::try_start().unwrap_or_else(|error| panic!("no browser: {error:#}"))
    }

    fn try_start() -> anyhow::Result<Self> {
        let needed = ["chromium", "chromium-driver"];
        packages::ensure(&host().workspace, "chromedriver", &needed)?;
        let [port] = free_ports([0]);
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let driver = launch::tied(&command)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start chromedriver")?;
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build()
            .into();
        let profile = tempfile::tempdir()?;
        let base = format!("http://127.0.0.1:{port}");
        let session = String::new();
        let mut browser = Self { driver, agent, base, session, profile };
        browser.wait_for_driver()?;
        browser.open_session()?;
        Ok(browser)
    }

    fn wait_for_driver(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.agent.get(format!("{}/status", self.base)).call().is_err() {
            if let Some(status) = self.driver.try_wait()? {
                bail!("chromedriver ended: {status}");
            }
            if Instant::now() > deadline {
                bail!("chromedriver does not answer");
            }
            thread::sleep(POLL_PERIOD);
        }
        Ok(())
    }

    fn open_session(&mut self) -> anyhow::Result<()> {
        let profile = format!("--user-data-dir={}", self.profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.split_whitespace().chain([profile.as_str()]).collect();
        let wanted = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        });
        let answer = self.post("/session", &json!({"capabilities": {"alwaysMatch": wanted}}))?;
        let id = answer["sessionId"].as_str().context("the session has no name")?;
        self.session = format!("/session/{id}");
        Ok(())
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{}{path}", self.base, self.session);
        let mut answer = self.agent.post(url).send_json(body).context(path.to_owned())?;
        let mut answer: Value = answer.body_mut().read_json().context(path.to_owned())?;
        if let Some(error) = answer["value"]["error"].as_str() {
            bail!("{path}: {error}: {}", answer["value"]["message"]);
        }
        Ok(answer["value"].take())
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.post(path, body).unwrap_or_else(|error| panic!("the browser fails: {error:#}"))
    }

    /// Opens a page.
    ///
    /// # Panics
    /// It does not load.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url}));
    }

    /// What a script returns, which is the body of a function.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of the first element of that selector.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({}).textContent", json!(selector));
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script until what it returns is something (neither null, false, 0 nor empty).
    ///
    /// # Panics
    /// It is not within `timeout`; says what the page shows.
    #[track_caller]
    pub fn wait_for(&self, what: &str, script: &str, timeout: Duration) -> Value {
        let deadline = Instant::now() + timeout;
        loop {
            let value = self.run(script);
            let nothing = [json!(null), json!(false), json!(0), json!(""), json!([])];
            if !nothing.contains(&value) {
                return value;
            }
            if Instant::now() > deadline {
                panic!("the page shows no {what} in {timeout:?}, but:\n{}", self.text("main"));
            }
            thread::sleep(POLL_PERIOD);
        }
    }

    /// Presses and releases a key, by WebDriver's code for it.
    ///
    /// # Panics
    /// The browser fails.
    #[track_caller]
    pub fn press(&self, key: char) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let source = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.command("/actions", &json!({"actions": [source]}));
    }

    /// Gives the page such a screen.
    ///
    /// # Panics
    /// The browser fails.
    #[track_caller]
    pub fn show_on(&self, screen: Screen) {
        let (width, height) = screen.size;
        let feature = json!({"name": "prefers-color-scheme", "value": screen.scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Writes a picture of the screen as PNG, of at most 256 colours: a third of the bytes.
    ///
    /// # Panics
    /// The browser fails, or the file cannot be written.
    #[track_caller]
    pub fn picture(&self, path: &Path) {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap_or_default());
        let bytes = bytes.unwrap_or_else(|error| panic!("no picture: {error}"));
        let written = fs::write(path, bytes).context("no place").and_then(|()| reduce(path));
        written.unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    }

    #[track_caller]
    fn devtools(&self, name: &str, parameters: &Value) -> Value {
        self.command("/goog/cdp/execute", &json!({"cmd": name, "params": parameters}))
    }

    /// What was written to the browser's console as errors since it was asked last: those of
    /// scripts, of what could not be loaded, and of what the page's policy forbids.
    ///
    /// # Panics
    /// The browser fails.
    #[track_caller]
    pub fn errors(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().into_iter().flatten();
        let severe = lines.filter(|line| line["level"] == "SEVERE");
        severe.map(|line| line["message"].to_string()).collect()
    }
}

fn reduce(path: &Path) -> anyhow::Result<()> {
    packages::ensure(&host().workspace, "pngquant", &["pngquant"])?;
    let mut pngquant = Command::new("pngquant");
    pngquant.args(["--force", "--strip", "--output"]).arg(path).arg("256").arg(path);
    let status = pngquant.status().context("cannot start pngquant")?;
    ensure!(status.success(), "pngquant: {status}");
    Ok(())
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with its session.
        if !self.session.is_empty() {
            let _ = self.agent.delete(format!("{}{}", self.base, self.session)).call();
        }
        if let Err(error) = launch::terminate(&mut self.driver) {
            eprintln!("chromedriver could not be ended: {error:#}");
        }
    }
}
