//! Whether the process of another rank on this host still runs, as the kernel says.
//!
//! Invariant: only processes that see each other are watched, those of one namespace of processes and of networks; where there is no `/proc`,
//! none is, and a rank's end is noticed by its silence.

use std::fs;
use std::io::Read;
use std::path::Path;

/// A process, by what no other of this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Where process numbers count.
    namespace: String,
    process: u32,
    /// When it was started, in ticks of the machine.
    started: u64,
    /// What only ranks know of it.
    word: String,
}

impl Neighbour {
    /// This process.
    pub(crate) fn this() -> Option<Self> {
        let process = std::process::id();
        let (_, started) = state_of(process)?;
        Some(Neighbour { namespace: namespace()?, process, started, word: word()? })
    }

    /// As text for other ranks.
    pub(crate) fn to_text(&self) -> String {
        format!("{} {} {} {}", self.namespace, self.process, self.started, self.word)
    }

    /// A process that another rank wrote down, if this process can see it.
    pub(crate) fn seen(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (namespace_there, process, started) = (words.next()?, words.next()?, words.next()?);
        let other = Neighbour {
            namespace: namespace_there.to_string(),
            process: process.parse().ok()?,
            started: started.parse().ok()?,
            word: words.next()?.to_string(),
        };
        (namespace()? == other.namespace && other.is_running()).then_some(other)
    }

    /// Its number on this machine.
    pub(crate) fn number(&self) -> u32 {
        self.process
    }

    /// What only ranks know of it.
    pub(crate) fn word(&self) -> &str {
        &self.word
    }

    /// Whether it runs, or is stopped and may go on.
    pub(crate) fn is_running(&self) -> bool {
        state_of(self.process).is_some_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }
}

fn namespace() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let [processes, network] = ["/proc/self/ns/pid", "/proc/self/ns/net"].map(|path| fs::read_link(path).ok());
    Some(format!("{}/{}/{}", boot.trim(), processes?.display(), network?.display()))
}

/// Something that nobody guesses.
fn word() -> Option<String> {
    let mut bytes = [0; 8];
    fs::File::open("/dev/urandom").ok()?.read_exact(&mut bytes).ok()?;
    Some(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// The state of a process and when it was started; none of one that is gone.
fn state_of(process: u32) -> Option<(char, u64)> {
    const STARTED: usize = 19;
    let text = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    // The name of the program is in brackets, and may have any characters.
    let (_, after) = text.rsplit_once(')')?;
    let mut words = after.split_whitespace();
    let state = words.clone().next()?.chars().next()?;
    Some((state, words.nth(STARTED)?.parse().ok()?))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_runs_until_it_is_killed() {
        let this = Neighbour::this().expect("a process");
        assert_eq!(Neighbour::seen(&this.to_text()).as_ref(), Some(&this));
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().expect("a child");
        let (_, started) = state_of(child.id()).expect("it runs");
        let child_as_seen = Neighbour { process: child.id(), started, ..this.clone() };
        assert!(child_as_seen.is_running());
        let stop = |signal: &str| Command::new("kill").args([signal, &child.id().to_string()]).status();
        stop("-STOP").expect("kill");
        assert!(child_as_seen.is_running(), "a stopped process is no ended one");
        stop("-KILL").expect("kill");
        while child_as_seen.is_running() {
            std::thread::yield_now();
        }
        child.wait().expect("it ended");
        assert!(!child_as_seen.is_running());
    }

    #[test]
    fn processes_that_are_not_this_machines_are_not_watched() {
        let this = Neighbour::this().expect("a process");
        let elsewhere = Neighbour { namespace: "other/pid:[1]".to_string(), ..this.clone() };
        let reused = Neighbour { started: this.started + 1, ..this };
        for text in [elsewhere.to_text(), reused.to_text(), String::new(), "a b".to_string()] {
            assert_eq!(Neighbour::seen(&text), None, "{text}");
        }
    }
}
