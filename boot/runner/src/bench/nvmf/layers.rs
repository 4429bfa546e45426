//! Which part of the program an instruction belongs to, and what callgrind counted of each.

use std::collections::{BTreeMap, HashMap};

/// The parts, from the wire to the drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Layer {
    /// The network card's driver.
    Virtio,
    /// TCP/IP, and whose core a frame is.
    Tcp,
    /// The host's sockets, as the hosted twin uses them.
    Sockets,
    /// The protocol's data units: found, checked and built.
    Pdu,
    /// Queues, commands, namespaces.
    NvmeOf,
    /// The block layer.
    Bdev,
    /// The drive's driver.
    Nvme,
    /// DMA memory, clocks, the machine.
    Environment,
    /// The event loop.
    Reactor,
    /// Whatever else: JSON-RPC's poller, the C library.
    Others,
}

impl Layer {
    pub(super) const ALL: [Self; 10] = [
        Self::Virtio,
        Self::Tcp,
        Self::Sockets,
        Self::Pdu,
        Self::NvmeOf,
        Self::Bdev,
        Self::Nvme,
        Self::Environment,
        Self::Reactor,
        Self::Others,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Tcp => "TCP",
            Self::Sockets => "sockets",
            Self::Pdu => "PDU",
            Self::NvmeOf => "NVMe-oF",
            Self::Bdev => "bdev",
            Self::Nvme => "NVMe",
            Self::Environment => "environment",
            Self::Reactor => "reactor",
            Self::Others => "others",
        }
    }

    /// Of a file of source. None if it is of use to all: the rings, Rust's library.
    pub(super) fn of_file(file: &str) -> Option<Self> {
        const FILES: [(&str, Layer); 15] = [
            ("/boot/hosted/src/stack/", Layer::Sockets),
            ("/drivers/virtio", Layer::Virtio),
            ("/smoltcp-", Layer::Tcp),
            ("/runtime/net/", Layer::Tcp),
            ("/runtime/nvmf-pdu/", Layer::Pdu),
            ("/runtime/nvmf/", Layer::NvmeOf),
            ("/runtime/bdev/", Layer::Bdev),
            ("/runtime/bdev-nvme/", Layer::Bdev),
            ("/drivers/nvme/", Layer::Nvme),
            ("/kernel/", Layer::Environment),
            ("/runtime/reactor/", Layer::Reactor),
            ("/boot/hosted/src/core_loop", Layer::Reactor),
            ("/runtime/rpc/", Layer::Others),
            ("/runtime/app/", Layer::Others),
            ("/boot/", Layer::Others),
        ];
        FILES.iter().find(|(part, _)| file.contains(part)).map(|(_, layer)| *layer)
    }

    /// Of an instruction that stems from `file` and was compiled into `function`, which counts
    /// where the file is of use to all.
    fn of(file: &str, function: &str) -> Self {
        const FUNCTIONS: [(&str, Layer); 8] = [
            ("basalt_hosted_target::stack", Layer::Sockets),
            ("basalt_nvmf_pdu::", Layer::Pdu),
            ("basalt_nvmf::", Layer::NvmeOf),
            ("basalt_bdev::", Layer::Bdev),
            ("basalt_env::", Layer::Environment),
            ("basalt_hosted::", Layer::Environment),
            ("basalt_reactor::", Layer::Reactor),
            ("basalt_hosted_target::core_loop", Layer::Reactor),
        ];
        let by_function = || FUNCTIONS.iter().find(|(part, _)| function.contains(part));
        let layer = Self::of_file(file).or_else(|| by_function().map(|(_, layer)| *layer));
        layer.unwrap_or(Self::Others)
    }
}

/// Instructions of each layer.
pub(super) type Counts = BTreeMap<Layer, u64>;

/// Reads a profile of callgrind (Valgrind's manual, "Callgrind Format Specification"): what each
/// function took by itself, calls left out.
pub(super) fn counts(profile: &str) -> Counts {
    let mut counts = Counts::new();
    let (mut files, mut functions) = (Names::default(), Names::default());
    let (mut file, mut function) = (String::new(), String::new());
    let mut is_call = false;
    for line in profile.lines() {
        match line.split_once('=') {
            Some(("fl" | "fi" | "fe", name)) => file = files.find(name),
            Some(("fn", name)) => function = functions.find(name),
            Some(("cfi" | "cfl", name)) => drop(files.find(name)),
            Some(("cfn", name)) => drop(functions.find(name)),
            Some(("calls", _)) => is_call = true,
            Some(_) => {}
            None => {
                let Some(cost) = cost(line) else { continue };
                if !std::mem::take(&mut is_call) {
                    *counts.entry(Layer::of(&file, &function)).or_default() += cost;
                }
            }
        }
    }
    counts
}

/// The cost of a line that has one: a position, absolute or relative, and a number.
fn cost(line: &str) -> Option<u64> {
    let (position, cost) = line.split_once(' ')?;
    let is_position = position.starts_with(['+', '-', '*']) || position.parse::<u64>().is_ok();
    cost.parse().ok().filter(|_| is_position)
}

/// Names are written once, with a number that stands for them from then on.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn find(&mut self, text: &str) -> String {
        match text.split_once(") ") {
            Some((number, name)) => {
                self.0.insert(number.to_owned(), name.to_owned());
                name.to_owned()
            }
            None => self.0.get(text.trim_end_matches(')')).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_takes_itself_counts_for_its_layer() {
        let profile = "\
version: 1
events: Ir

fl=(1) /x/runtime/nvmf/src/connection/io.rs
fn=(1) basalt_nvmf::connection::io::plan
10 5
+2 7
fi=(2) /rustc/library/core/src/option.rs
* 3
fe=(1)
cfi=(3) /x/runtime/bdev/src/channel.rs
cfn=(2) basalt_bdev::channel::Channel::submit
calls=1 20
12 1000

fl=(3)
fn=(2)
20 40
fl=(4) ./string/memmove.S
fn=(3) memcpy
1 2
totals: 1057
";
        let expected = [(Layer::NvmeOf, 15), (Layer::Bdev, 40), (Layer::Others, 2)];
        assert_eq!(counts(profile), Counts::from(expected));
    }
}
