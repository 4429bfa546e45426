//! What somebody sees who opens the machine's page: a browser without a window shows that of the
//! real image, while a host reads and writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use basalt_qemu_tests::browser::{Browser, Screen};
use basalt_qemu_tests::initiator::{Initiator, Random, command};
use basalt_qemu_tests::{BasaltGuest, Guest, free_ports};
use serde_json::Value;
use tempfile::NamedTempFile;

const BOOT: Duration = Duration::from_secs(120);
/// How long the page may take for what it does every second.
const STEP: Duration = Duration::from_secs(60);
const DISK_BYTES: u64 = 64 << 20;
/// WebDriver's codes of keys.
const TAB: char = '\u{e004}';
const LEFT: char = '\u{e012}';

const PHONES: [Screen; 4] = [
    Screen { size: (390, 844), scheme: "dark" },
    Screen { size: (390, 844), scheme: "light" },
    Screen { size: (320, 640), scheme: "dark" },
    Screen { size: (320, 640), scheme: "light" },
];
const DESKS: [Screen; 2] =
    [Screen { size: (1280, 900), scheme: "dark" }, Screen { size: (1280, 900), scheme: "light" }];

/// Keeps what the page is told from now on, in order.
const EAVESDROP: &str = "
    window.heard = [];
    const ask = window.fetch;
    window.fetch = async (path, options) => {
        const answer = await ask(path, options);
        if (path === 'api/state') window.heard.push(await answer.clone().json());
        return answer;
    };";

/// What the row of a bdev shows, by the column's name, with what was heard until then.
const SHOWN: &str = "
    const rows = [...document.querySelectorAll('#storage tbody tr')];
    const row = rows.find((row) => row.querySelector('.name').textContent === 'Nvme0n1');
    if (!row || window.heard.length < 5) return null;
    const [reads, writes] = [...row.cells].slice(1).map((cell) => cell.textContent);
    if (!(parseInt(reads) > 0 && parseInt(writes) > 0)) return null;
    const cells = Object.fromEntries([...row.cells].slice(1)
        .map((cell) => [cell.dataset.label, cell.textContent]));
    const heard = window.heard.slice(-3).map((state) => ({
        now_ns: state.now_ns, bdev: state.bdevs.find((bdev) => bdev.name === 'Nvme0n1'),
    }));
    return { cells, heard };";

/// What the pictures show: a mirror of two drives, and a third, by the names of the default export.
const MIRROR: &str = r#"{"subsystems": [
    {"subsystem": "bdev", "config": [{"method": "bdev_raid_create", "params": {
        "name": "Mirror", "raid_level": "raid1", "base_bdevs": ["Nvme0n1", "Nvme1n1"]}}]},
    {"subsystem": "nvmf", "config": [
        {"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
        {"method": "nvmf_create_subsystem", "params": {
            "nqn": "nqn.2026-11.io.basalt:storage", "allow_any_host": true}},
        {"method": "nvmf_subsystem_add_ns", "params": {
            "nqn": "nqn.2026-11.io.basalt:storage", "namespace": {"bdev_name": "Mirror"}}},
        {"method": "nvmf_subsystem_add_ns", "params": {
            "nqn": "nqn.2026-11.io.basalt:storage", "namespace": {"bdev_name": "Nvme2n1"}}},
        {"method": "nvmf_subsystem_add_listener", "params": {
            "nqn": "nqn.2026-11.io.basalt:storage", "listen_address": {
                "trtype": "TCP", "adrfam": "IPv4", "traddr": "0.0.0.0", "trsvcid": "4420"}}}]}]}"#;

/// A machine with drives, its page, and where a host reaches it.
struct Shown {
    disks: Vec<NamedTempFile>,
    config: Option<&'static str>,
    guest: Option<Guest>,
    nvmf: u16,
    page: u16,
}

impl Shown {
    fn start(drives: usize, config: Option<&'static str>) -> Self {
        let disk = |_| {
            let made = NamedTempFile::new().and_then(|disk| {
                disk.as_file().set_len(DISK_BYTES)?;
                Ok(disk)
            });
            made.unwrap_or_else(|error| panic!("no disk: {error}"))
        };
        let disks = (0..drives).map(disk).collect();
        let [nvmf, page] = free_ports([4420, 9090]);
        let mut shown = Self { disks, config, guest: None, nvmf, page };
        shown.boot();
        shown
    }

    fn boot(&mut self) {
        let machine = self
            .disks
            .iter()
            .fold(BasaltGuest::new("shown"), |machine, disk| machine.disk(disk.path()));
        let machine = self.config.into_iter().fold(machine, BasaltGuest::config);
        let guest = machine.user_network_at_all([(self.nvmf, 4420), (self.page, 9090)]).start();
        guest.wait_for_line("basalt: ready", BOOT);
        self.guest = Some(guest);
    }

    fn open(&self) -> Browser {
        let browser = Browser::start();
        browser.show_on(DESKS[1]);
        browser.open(&format!("http://127.0.0.1:{}/", self.page));
        browser
    }
}

/// A host that reads and writes until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    host: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    /// On the namespace at that place.
    fn start(port: u16, namespace: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let host = thread::spawn(move || read_and_write(port, namespace, &is_over));
        Self { stop, host: Some(host) }
    }

    /// Ends it.
    fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let host = self.host.take().map(JoinHandle::join);
        assert!(matches!(host, Some(Ok(Ok(())))), "the host failed: {host:?}");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn read_and_write(port: u16, namespace: usize, is_over: &AtomicBool) -> anyhow::Result<()> {
    let mut host = Initiator::connect(port)?;
    let namespaces = host.namespaces()?;
    let on = *namespaces
        .get(namespace)
        .ok_or_else(|| anyhow::anyhow!("there is no namespace {namespace}"))?;
    let blocks = 4096 / on.block_len;
    let mut random = Random::new(1);
    while !is_over.load(Ordering::Relaxed) {
        let lba = random.below((on.blocks / u64::from(blocks)) as usize) as u64;
        let lba = lba * u64::from(blocks);
        let answer = match random.below(3) {
            0 => host.write(on, lba, &[7; 4096])?,
            _ => host.read(on, lba, blocks)?,
        };
        anyhow::ensure!(answer.status == command::OK, "status {:#x}", answer.status);
    }
    Ok(())
}

/// How many a second there were of what `kind` counts, between two snapshots.
fn per_second(old: &Value, new: &Value, kind: &str, counter: &str) -> f64 {
    let number = |state: &Value, at: &str| state.pointer(at).and_then(Value::as_f64);
    let grown = |at: &str| match (number(old, at), number(new, at)) {
        (Some(old), Some(new)) => new - old,
        _ => panic!("no {at} in {old}"),
    };
    grown(&format!("/bdev/{kind}/{counter}")) / (grown("/now_ns") / 1e9)
}

/// A number with its unit as the page writes it, in units, and by how much it may be rounded.
fn read_number(text: &str) -> (f64, f64) {
    let (digits, unit) = text.split_once('\u{a0}').unwrap_or((text, ""));
    let digits = digits.replace(',', "");
    let scale = match unit {
        "" | "B/s" => 1.0,
        "KiB/s" => 1024.0,
        "MiB/s" => 1024.0 * 1024.0,
        _ => panic!("what is {text:?}?"),
    };
    let number: f64 = digits.parse().unwrap_or_else(|_| panic!("{text:?} is no number"));
    let decimals = digits.split_once('.').map_or(0, |(_, after)| after.len());
    (number * scale, 0.501 * scale * 0.1_f64.powi(decimals as i32))
}

/// What is shown was counted between two of the last snapshots.
fn assert_agrees(shown: &Value) {
    let heard = shown["heard"].as_array().map_or(&[][..], Vec::as_slice);
    let columns = [
        ("Read IOPS", "read", "ios"),
        ("Write IOPS", "write", "ios"),
        ("Read", "read", "bytes"),
        ("Write", "write", "bytes"),
    ];
    let is_of = |pair: &[Value]| {
        columns.iter().all(|(column, kind, counter)| {
            let (number, rounding) = read_number(shown["cells"][column].as_str().unwrap_or("none"));
            (number - per_second(&pair[0], &pair[1], kind, counter)).abs() <= rounding
        })
    };
    assert!(heard.windows(2).any(is_of), "what is shown was not counted: {shown}");
}

/// The names of what has the focus while it goes from one place to the next.
fn tab_through(browser: &Browser) -> Vec<String> {
    let script = "
        const at = document.activeElement;
        const style = getComputedStyle(at);
        const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
        return (ring ? '' : 'unseen ') + (at.id || at.className || at.tagName);";
    let mut names = Vec::new();
    while names.len() < 40 {
        browser.press(TAB);
        let name = browser.run(script).as_str().unwrap_or_default().to_owned();
        let is_last = name == "log";
        names.push(name);
        if is_last {
            return names;
        }
    }
    panic!("the log is not reached: {names:?}");
}

fn assert_fits(browser: &Browser, screen: Screen) {
    browser.show_on(screen);
    let script = "
        const root = document.documentElement;
        const ground = getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g);
        return [root.scrollWidth, window.innerWidth, ground.slice(0, 3).map(Number)];";
    let seen = browser.run(script);
    let [wide, room] = [&seen[0], &seen[1]].map(|width| width.as_f64().unwrap_or(f64::MAX));
    assert!(wide <= room && room <= f64::from(screen.size.0), "{screen:?}: {seen}");
    let light = seen[2].as_array().into_iter().flatten().filter_map(Value::as_f64).sum::<f64>();
    assert_eq!(light < 300.0, screen.scheme == "dark", "{screen:?}: {seen}");
}

const IS_FRESH: &str = "
    const said = document.getElementById('sentence').textContent;
    return !/^(Asking|No answer)/.test(said) && said";

#[test]
fn the_page_shows_what_the_machine_counts_and_says_when_it_is_gone_and_back() {
    let mut shown = Shown::start(1, None);
    let load = Load::start(shown.nvmf, 0);
    let browser = shown.open();
    let said = browser.wait_for("verdict", IS_FRESH, STEP);
    assert_eq!(said, "All is well", "{}", browser.text("#findings"));
    browser.run(EAVESDROP);
    for _ in 0..3 {
        assert_agrees(&browser.wait_for("I/O of Nvme0n1", SHOWN, STEP));
        browser.run("window.heard.length = 0");
    }
    for (selector, has) in [
        ("#facts", "10.0.2.15/24"),
        ("#health", "QEMU NVMe Ctrl"),
        ("#hosts", "nqn.2026-11.io.basalt:storage"),
        ("#subsystems", "1: Nvme0n1"),
        ("#cores", "%"),
        ("#memory", "Heap"),
        ("#network", "net0"),
        ("#pollers", "nvmf_tcp"),
        ("#log", "NVMe controller"),
    ] {
        let text = browser.text(selector);
        assert!(text.contains(has), "{selector} does not show {has:?}: {text}");
    }
    assert_eq!(browser.errors(), [""; 0]);

    let order = tab_through(&browser);
    let expected = ["skip", "pause", "theme", "scope", "span", "field", "level", "needle", "log"];
    let places = expected.map(|name| order.iter().position(|other| other == name));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{order:?}");
    assert!(order.iter().all(|name| !name.starts_with("unseen")), "{order:?}");
    browser.run("document.querySelector('.field').focus()");
    browser.press(LEFT);
    browser.press(LEFT);
    let told = browser.run("return document.activeElement.getAttribute('aria-valuetext')");
    assert!(told.as_str().is_some_and(|told| told.contains("2\u{a0}s ago: read ")), "{told}");

    for screen in PHONES.into_iter().chain(DESKS) {
        assert_fits(&browser, screen);
    }
    load.end();

    shown.guest = None;
    let gone =
        "return document.getElementById('sentence').textContent.startsWith('No answer since')
        && document.getElementById('since').textContent.includes('next try in')";
    browser.wait_for("end of the machine", gone, STEP);
    shown.boot();
    browser.run("document.getElementById('retry').click()");
    browser.wait_for("verdict", IS_FRESH, STEP);
    let again =
        "return document.getElementById('since').textContent.includes('started again 1 time')";
    browser.wait_for("restart", again, STEP);
}

/// `cargo test -p basalt-qemu-tests --test page -- --ignored` makes them, in two minutes of load.
#[test]
#[ignore = "makes the pictures of the README"]
fn pictures_of_the_page() {
    let shown = Shown::start(3, Some(MIRROR));
    let browser = shown.open();
    let loads = [0, 1].map(|namespace| Load::start(shown.nvmf, namespace));
    browser.wait_for("verdict", IS_FRESH, STEP);
    // As long as the plots reach.
    thread::sleep(Duration::from_secs(125));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    std::fs::create_dir_all(&docs).unwrap_or_else(|error| panic!("{error}"));
    for (name, screen) in [("page-light.png", DESKS[1]), ("page-phone-dark.png", PHONES[0])] {
        browser.show_on(screen);
        thread::sleep(Duration::from_secs(2));
        browser.picture(&docs.join(name));
    }
    loads.into_iter().for_each(Load::end);
    assert_eq!(browser.errors(), [""; 0]);
}
