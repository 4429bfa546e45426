//! Names as codes of a dictionary: words, and pairs of what comes up side by side again and again
//! (byte-pair encoding of words). The form is that of the crate `basalt_symbols`.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use basalt_symbols::DEPTH_MAX;

/// How often a pair has to come up to be worth an entry.
const WORTH: usize = 4;

type Pair = (usize, usize);

/// What an entry of the dictionary stands for.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Word(&'a str),
    Pair(Pair),
}

/// Names in the making.
#[derive(Debug, Default)]
struct Packer<'a> {
    entries: Vec<Part<'a>>,
    /// How many pairs lie within one another, by entry.
    depths: Vec<usize>,
    /// Every name as entries, and how many functions have it.
    names: Vec<(Vec<usize>, usize)>,
    /// What comes up side by side.
    pairs: HashMap<Pair, Places>,
}

/// Where a pair comes up.
#[derive(Debug, Default)]
struct Places {
    /// How often, counted for each function.
    count: usize,
    /// The indices of all names with it, and of some that had it.
    names: BTreeSet<usize>,
}

/// The dictionary, and the codes of each of `names`.
pub(super) fn pack<'a>(
    names: impl Iterator<Item = &'a str>,
) -> (Vec<u8>, HashMap<&'a str, Vec<u8>>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    let mut packer = Packer::default();
    packer.read(&counts);
    packer.pair();
    let codes = packer.codes();
    let names = counts.into_keys().zip(&packer.names);
    let names = names.map(|(name, (entries, _))| {
        let mut bytes = Vec::new();
        entries.iter().for_each(|&entry| put(&mut bytes, codes[entry]));
        (name, bytes)
    });
    (packer.dictionary(&codes), names.collect())
}

/// Appends `number` as the table has numbers: seven bits to a byte.
pub(super) fn put(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What a name consists of: runs of letters, digits and underscores, and other characters.
fn words(mut name: &str) -> Vec<&str> {
    let mut words = Vec::new();
    while let Some(first) = name.chars().next() {
        let run = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        let (word, rest) = name.split_at(run.max(first.len_utf8()));
        words.push(word);
        name = rest;
    }
    words
}

fn pairs(entries: &[usize]) -> impl Iterator<Item = Pair> {
    entries.windows(2).map(|pair| (pair[0], pair[1]))
}

impl<'a> Packer<'a> {
    fn read(&mut self, names: &BTreeMap<&'a str, usize>) {
        let mut known = HashMap::new();
        for (&name, &count) in names {
            let mut entries = Vec::new();
            for word in words(name) {
                let next = self.entries.len();
                let entry = *known.entry(word).or_insert(next);
                if entry == next {
                    self.entries.push(Part::Word(word));
                    self.depths.push(0);
                }
                entries.push(entry);
            }
            self.names.push((entries, count));
            self.count_in(self.names.len() - 1);
        }
    }

    /// Makes entries of pairs, the most frequent one first, until none is worth it.
    fn pair(&mut self) {
        while let Some(pair) = self.most_frequent() {
            let new = self.entries.len();
            self.entries.push(Part::Pair(pair));
            self.depths.push(self.depths[pair.0].max(self.depths[pair.1]) + 1);
            let places = self.pairs.remove(&pair).unwrap_or_default();
            for name in places.names {
                if !pairs(&self.names[name].0).any(|found| found == pair) {
                    continue;
                }
                self.count_out(name, pair);
                self.names[name].0 = replaced(&self.names[name].0, pair, new);
                self.count_in(name);
            }
        }
    }

    /// Counts the pairs of a name.
    fn count_in(&mut self, name: usize) {
        let (entries, count) = &self.names[name];
        for pair in pairs(entries) {
            let places = self.pairs.entry(pair).or_default();
            places.count += count;
            places.names.insert(name);
        }
    }

    /// Counts the pairs of a name no longer, of which `gone` is not known any more.
    fn count_out(&mut self, name: usize, gone: Pair) {
        let (entries, count) = &self.names[name];
        for pair in pairs(entries).filter(|pair| *pair != gone) {
            let Entry::Occupied(mut places) = self.pairs.entry(pair) else { continue };
            places.get_mut().count -= count;
            if places.get().count == 0 {
                places.remove();
            }
        }
    }

    fn most_frequent(&self) -> Option<Pair> {
        let shallow = |pair: &Pair| self.depths[pair.0].max(self.depths[pair.1]) < DEPTH_MAX;
        let worth = self.pairs.iter().map(|(pair, places)| (places.count, Reverse(*pair)));
        // Of equals the first, so that the same image always has the same table.
        let worth = worth.filter(|(count, pair)| *count >= WORTH && shallow(&pair.0));
        worth.max().map(|(_, pair)| pair.0)
    }

    /// The code of each entry: the more often it is used the lower, as low ones are shorter.
    fn codes(&self) -> Vec<usize> {
        let mut uses = vec![0; self.entries.len()];
        for (entries, count) in &self.names {
            entries.iter().for_each(|&entry| uses[entry] += count);
        }
        for entry in &self.entries {
            let Part::Pair((first, second)) = *entry else { continue };
            uses[first] += 1;
            uses[second] += 1;
        }
        let mut codes = vec![0; uses.len()];
        by_use(&uses).into_iter().enumerate().for_each(|(code, entry)| codes[entry] = code);
        codes
    }

    fn dictionary(&self, codes: &[usize]) -> Vec<u8> {
        let mut order: Vec<_> = (0..codes.len()).collect();
        order.sort_unstable_by_key(|&entry| codes[entry]);
        let mut bytes = Vec::new();
        for entry in order {
            match self.entries[entry] {
                Part::Word(word) => {
                    put(&mut bytes, word.len());
                    bytes.extend(word.bytes());
                }
                Part::Pair((first, second)) => {
                    bytes.push(0);
                    put(&mut bytes, codes[first]);
                    put(&mut bytes, codes[second]);
                }
            }
        }
        bytes
    }
}

/// All entries, the most used first.
fn by_use(uses: &[usize]) -> Vec<usize> {
    let mut entries: Vec<_> = (0..uses.len()).collect();
    entries.sort_by_key(|&entry| Reverse(uses[entry]));
    entries
}

/// The entries with `new` in place of each `pair`.
fn replaced(entries: &[usize], pair: Pair, new: usize) -> Vec<usize> {
    let mut replaced = Vec::with_capacity(entries.len());
    let mut rest = entries;
    while let Some((&first, behind)) = rest.split_first() {
        let is_pair = first == pair.0 && behind.first() == Some(&pair.1);
        replaced.push(if is_pair { new } else { first });
        rest = if is_pair { &behind[1..] } else { behind };
    }
    replaced
}
