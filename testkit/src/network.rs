//! Where the servers of a cluster live, and what is dropped between them.

use std::net::Ipv4Addr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::command::succeeded;

/// The kind of network of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Each server listens on an address of its own in 127.0.x.0/24. Nothing can be partitioned: whoever connects on
    /// loopback sends from the address that it connects to.
    #[default]
    Loopback,
    /// Each server has a network namespace of its own, and pgherd has one; the test's own process is the observer.
    Namespaces,
}

/// One end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The server with this node id, from 1.
    Server(i32),
    /// Every pgherd of the cluster.
    Proxy,
    /// The test's own process and the clients that it starts.
    Observer,
}

/// The host part of the first pgherd's address; each further one has the next.
const PROXY_HOSTS: std::ops::RangeInclusive<u8> = 100..=107;
const OBSERVER_HOST: u8 = 254;

/// The address of host `host` of a cluster. 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
pub(crate) fn address(network: Network, block: u8, host: u8) -> Ipv4Addr {
    match network {
        Network::Loopback => Ipv4Addr::new(127, 0, block, host),
        Network::Namespaces => Ipv4Addr::new(198, 18, block, host),
    }
}

/// The host part of the address of the `index`-th pgherd.
pub(crate) fn proxy_host(index: u8) -> u8 {
    PROXY_HOSTS.start().saturating_add(index)
}

/// The namespace of a server.
pub(crate) fn server_namespace(block: u8, name: &str) -> String {
    format!("pgh{block}-{name}")
}

/// The namespace of every pgherd.
pub(crate) fn proxy_namespace(block: u8) -> String {
    format!("pgh{block}-proxy")
}

/// Namespaces joined by a bridge. The bridge has a namespace too, so that the host's own firewall has no say in it, and
/// it holds the one set of address pairs between which packets are dropped.
#[derive(Debug)]
pub(crate) struct Namespaces {
    block: u8,
}

impl Namespaces {
    /// Makes the namespaces of `servers` (names, in the order of their addresses from .1) and of pgherd. The sweep of the
    /// lease removes them.
    pub(crate) async fn create(block: u8, servers: &[String]) -> Result<Self> {
        let bridge = format!("pgh{block}-net");
        let mut script = format!(
            "netns add {bridge}\n-n {bridge} link add br0 type bridge\n-n {bridge} link set br0 up\n\
             link add pgh{block} type veth peer name root netns {bridge}\n\
             -n {bridge} link set root master br0 up\n\
             addr add {}/24 dev pgh{block}\nlink set pgh{block} up\n",
            address(Network::Namespaces, block, OBSERVER_HOST)
        );
        let hosts =
            servers.iter().zip(1_u8..).map(|(name, host)| (server_namespace(block, name), host..=host));
        for (namespace, addresses) in hosts.chain([(proxy_namespace(block), PROXY_HOSTS)]) {
            let port = format!("port{}", addresses.start());
            script += &format!(
                "netns add {namespace}\n-n {namespace} link set lo up\n\
                 -n {bridge} link add {port} type veth peer name eth0 netns {namespace}\n\
                 -n {bridge} link set {port} master br0 up\n-n {namespace} link set eth0 up\n"
            );
            for host in addresses {
                let address = address(Network::Namespaces, block, host);
                script += &format!("-n {namespace} addr add {address}/24 dev eth0\n");
            }
        }
        for line in script.lines() {
            let mut command = Command::new("ip");
            let output = command.args(line.split(' ')).output().await.context("cannot run ip")?;
            succeeded(&format!("ip {line}"), &output)?;
        }
        let namespaces = Self { block };
        namespaces
            .nft(
                "add table bridge faults
                 add set bridge faults cut { type ipv4_addr . ipv4_addr; }
                 add chain bridge faults forward { type filter hook forward priority 0; }
                 add rule bridge faults forward ip saddr . ip daddr @cut drop",
            )
            .await?;
        Ok(namespaces)
    }

    /// Drops every packet from one party to another.
    pub(crate) async fn cut(&self, from: Party, to: Party) -> Result<()> {
        ensure!(from != to, "{from:?} cannot be cut from itself");
        self.nft(&format!("add element bridge faults cut {{ {} }}", self.pairs(from, to))).await
    }

    /// Lets packets from one party to another through again.
    pub(crate) async fn mend(&self, from: Party, to: Party) -> Result<()> {
        // Adding before deleting makes it no error when nothing was cut.
        let pairs = self.pairs(from, to);
        let script = format!(
            "add element bridge faults cut {{ {pairs} }}\ndelete element bridge faults cut {{ {pairs} }}"
        );
        self.nft(&script).await
    }

    /// Lets everything through.
    pub(crate) async fn heal(&self) -> Result<()> {
        self.nft("flush set bridge faults cut").await
    }

    fn pairs(&self, from: Party, to: Party) -> String {
        let (sources, targets) = (self.addresses(from), self.addresses(to));
        let pairs = sources
            .iter()
            .flat_map(|source| targets.iter().map(move |target| format!("{source} . {target}")));
        pairs.collect::<Vec<_>>().join(", ")
    }

    fn addresses(&self, party: Party) -> Vec<Ipv4Addr> {
        let hosts: Vec<u8> = match party {
            Party::Server(id) => u8::try_from(id).into_iter().collect(),
            Party::Proxy => PROXY_HOSTS.collect(),
            Party::Observer => vec![OBSERVER_HOST],
        };
        hosts.into_iter().map(|host| address(Network::Namespaces, self.block, host)).collect()
    }

    async fn nft(&self, script: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("pgh{}-net", self.block), "nft", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run ip netns exec")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(script.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        succeeded(&format!("nft {script}"), &output).map(drop)
    }
}
