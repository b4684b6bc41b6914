//! Two hosts on this machine: network, UTS and mount namespaces of their own, each with its own name and shared memory, joined
//! by a pair of virtual Ethernet devices at 1 Gbit/s. What crosses the wire is what `remat plan` says.
//!
//! Invariant: the namespaces go with [`Hosts`], whatever becomes of the run in them.

use super::launch::{Launcher, Outcome, same};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Names of the hosts and their addresses.
const HOSTS: [(&str, &str); 2] = [("remat-a", "10.77.0.1"), ("remat-b", "10.77.0.2")];

const LINK: &str = "1Gbit/s";

/// How far what crosses the wire may be from what was planned.
const TOLERANCE: f64 = 0.03;

const UPDATES: u64 = 200;

/// Two hosts, and the agent that starts a command on one of them.
struct Hosts {
    agent: PathBuf,
}

fn run(command: &str) -> Outcome<()> {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().ok_or("a command")?).args(words).status()?;
    status.success().then_some(()).ok_or_else(|| format!("{command}: {status}").into())
}

impl Hosts {
    fn new(launcher: &Launcher<'_>) -> Outcome<Self> {
        let agent = launcher.path("agent");
        let script = "#!/bin/sh\nhost=$1; shift\ncase $host in 10.77.0.1) host=remat-a;; 10.77.0.2) host=remat-b;; esac\n\
                      exec ip netns exec $host unshare --uts --mount sh -c \
                      'hostname \"$0\"; mount -t tmpfs none /dev/shm; exec sh -c \"$*\"' $host \"$@\"\n";
        fs::write(&agent, script)?;
        run(&format!("chmod +x {}", agent.display()))?;
        let hosts = Hosts { agent };
        let [(a, address_a), (b, address_b)] = HOSTS;
        for (host, _) in HOSTS {
            run(&format!("ip netns add {host}"))?;
            run(&format!("ip -n {host} link set lo up"))?;
        }
        run(&format!("ip link add {a} netns {a} type veth peer name {b} netns {b}"))?;
        for (host, address) in [(a, address_a), (b, address_b)] {
            run(&format!("ip -n {host} addr add {address}/24 dev {host}"))?;
            run(&format!("ip -n {host} link set {host} up"))?;
            run(&format!("ip netns exec {host} tc qdisc add dev {host} root tbf rate 1gbit burst 256k latency 50ms"))?;
        }
        Ok(hosts)
    }

    /// A command on the first of them that starts `ranks` on each by Open MPI.
    fn mpirun(&self, launcher: &Launcher<'_>, ranks: usize) -> Command {
        let [(host, a), (_, b)] = HOSTS;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", host, "unshare", "--uts", "--mount", "sh", "-c"]);
        command.arg("hostname \"$0\"; mount -t tmpfs none /dev/shm; exec \"$@\"").arg(host);
        command.args(["mpirun.openmpi", "-n", &(2 * ranks).to_string(), "--host", &format!("{a}:{ranks},{b}:{ranks}")]);
        command.args(["--bind-to", "none", "--map-by", "slot", "--mca", "plm_rsh_agent"]).arg(&self.agent);
        for layer in ["btl_tcp_if_include", "oob_tcp_if_include"] {
            command.args(["--mca", layer, "10.77.0.0/24"]);
        }
        for name in ["OMPI_MCA_btl_vader_single_copy_mechanism", "XDG_CACHE_HOME"] {
            command.args(["-x", name]);
        }
        command.arg(&launcher.binary);
        command
    }

    /// What has left a host and come to it so far.
    fn bytes(&self, host: &str) -> Outcome<[u64; 2]> {
        let count = |name: &str| -> Outcome<u64> {
            let file = format!("/sys/class/net/{host}/statistics/{name}");
            // The file system of an interface's namespace is what `ip netns exec` mounts.
            let output = Command::new("ip").args(["netns", "exec", host, "cat", &file]).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        Ok([count("tx_bytes")?, count("rx_bytes")?])
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (host, _) in HOSTS {
            drop(Command::new("ip").args(["netns", "del", host]).status());
        }
    }
}

pub(crate) fn joined_by_a_link(launcher: &Launcher<'_>) -> Outcome<()> {
    if launcher.name() != "openmpi" {
        return Ok(());
    }
    // Every update has as many micro-batches as the plan says.
    let model = format!("{} --method full", launcher.model("llama-f16", true));
    let flags = format!("{model} --lr 1e-3 --steps {UPDATES} --save-every {UPDATES}");
    launcher.succeeds(launcher.train(0, "one-host", &flags))?;
    let hosts = Hosts::new(launcher)?;
    launcher.succeeds(launcher.settings(hosts.mpirun(launcher, 2), "two-hosts", &flags))?;
    same("two hosts", &launcher.bytes_of("one-host")?, &launcher.bytes_of("two-hosts")?)?;
    let moved = hosts.bytes(HOSTS[0].0)?;
    let mut plan = Command::new(&launcher.alone);
    plan.args(["plan", "--json", "--batch-size", "1", "--grad-accum", "4", "--rank", "4", "--threads", "1"]);
    plan.args(model.split_whitespace());
    plan.args(["--ranks", "4", "--hosts", "2", "--link", LINK]).current_dir(launcher.root());
    let output = plan.output()?;
    let planned: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let planned = planned["ranks"]["link_bytes"].as_u64().ok_or("a plan of ranks")? * UPDATES;
    let most = moved[0].max(moved[1]);
    let off = most as f64 / planned as f64 - 1.0;
    println!("{most} bytes crossed the wire, {planned} were planned: {:+.2} %", 100.0 * off);
    if off.abs() <= TOLERANCE { Ok(()) } else { Err(format!("{most} bytes, {planned} planned").into()) }
}
