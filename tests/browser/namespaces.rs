//! Two networks with a router between them, which lets through what a test wants: a viewer's and a server's, as Linux network
//! namespaces.
//!
//! Needs the rights to make them; where those are missing, [`in_the_viewers`] says so and its test is not run.

use std::process::{Command, Stdio};

/// Where the server is.
pub const SERVER: &str = "198.51.100.2";
const VIEWER: &str = "10.77.1.2";
/// Says to a process that it is in the viewer's network, and what the others are called.
const VARIABLE: &str = "MOUTHPIECE_TEST_NETWORK";

/// Dropped by who made it, the networks are gone.
pub struct Lab {
    name: String,
    is_owner: bool,
}

/// Runs the test of this name in a viewer's network, in a process of its own, or says why it cannot be.
pub fn in_the_viewers(test: &str, work: impl AsyncFnOnce(Lab)) {
    if let Ok(name) = std::env::var(VARIABLE) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(work(Lab { name, is_owner: false }));
    }
    let lab = match Lab::make() {
        Ok(lab) => lab,
        Err(reason) => return eprintln!("{test} is skipped: no network namespaces here: {reason}"),
    };
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", &lab.viewers()]).arg(std::env::current_exe().unwrap());
    inside.args(["--exact", test, "--nocapture"]).env(VARIABLE, &lab.name);
    let ran = inside.output().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}", ran.status);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "no test is called {test}");
}

impl Lab {
    fn make() -> Result<Self, String> {
        let name = format!("mouthpiece{}", std::process::id());
        let lab = Self { name, is_owner: true };
        let (viewers, router, servers) = (lab.viewers(), lab.routers(), lab.servers());
        for namespace in [&viewers, &router, &servers] {
            run("ip", &format!("netns add {namespace}"))?;
            run("ip", &format!("-n {namespace} link set lo up"))?;
        }
        for (namespace, link, address, router_address) in
            [(&viewers, "inside", VIEWER, "10.77.1.1"), (&servers, "outside", SERVER, "198.51.100.1")]
        {
            run("ip", &format!("-n {router} link add {link} type veth peer name eth0 netns {namespace}"))?;
            for (namespace, link, address) in [(namespace, "eth0", address), (&router, link, router_address)] {
                run("ip", &format!("-n {namespace} addr add {address}/24 dev {link}"))?;
                run("ip", &format!("-n {namespace} link set {link} up"))?;
            }
        }
        run("ip", &format!("-n {viewers} route add default via 10.77.1.1"))?;
        // An address translator that gives each connection another port, as the symmetric ones do.
        lab.router("sysctl -q -w net.ipv4.ip_forward=1")?;
        lab.router("iptables -t nat -A POSTROUTING -o outside -j MASQUERADE --random-fully")?;
        Ok(lab)
    }

    fn viewers(&self) -> String {
        format!("{}-viewer", self.name)
    }

    fn routers(&self) -> String {
        format!("{}-router", self.name)
    }

    /// The namespace that the server is in.
    pub fn servers(&self) -> String {
        format!("{}-server", self.name)
    }

    fn router(&self, command: &str) -> Result<(), String> {
        run("ip", &format!("netns exec {} {command}", self.routers()))
    }

    /// From now on the router lets through TCP, of UDP these ports of the server's alone.
    pub fn only_udp_ports(&self, ports: &[u16]) {
        let rule = |rule: &str| self.router(&format!("iptables {rule}")).unwrap();
        rule("-F FORWARD");
        for port in ports {
            rule(&format!("-A FORWARD -p udp --dport {port} -j ACCEPT"));
            rule(&format!("-A FORWARD -p udp --sport {port} -j ACCEPT"));
        }
        rule("-A FORWARD -p udp -j DROP");
    }

    /// From now on the router lets everything through.
    pub fn everything(&self) {
        self.router("iptables -F FORWARD").unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_owner {
            for namespace in [self.viewers(), self.routers(), self.servers()] {
                let _ = run("ip", &format!("netns del {namespace}"));
            }
        }
    }
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let ran = Command::new(program).args(arguments.split(' ')).stdin(Stdio::null()).output();
    let ran = ran.map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {arguments}: {}", String::from_utf8_lossy(&ran.stderr).trim()))
}
