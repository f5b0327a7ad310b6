//! The servers, and one that runs.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hotloop_peers::READY;

/// A server to compare.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    program: &'static str,
    /// What hotloop runs on.
    backend: Option<&'static str>,
}

/// All there are; the first is what the others are set against.
pub(crate) const SERVERS: [Server; 8] = [
    Server { name: "c", program: "server-raw", backend: None },
    Server { name: "hotloop", program: "server-hotloop", backend: Some("epoll") },
    Server { name: "hotloop-portable", program: "server-hotloop", backend: Some("portable") },
    Server { name: "mio", program: "server-mio", backend: None },
    Server { name: "tokio", program: "server-tokio", backend: None },
    Server { name: "polling", program: "server-polling", backend: None },
    Server { name: "libuv", program: "server-uv", backend: None },
    Server { name: "libevent", program: "server-event", backend: None },
];

/// The core of the server, and that of the load.
pub(crate) const SERVER_CORE: &str = "0";
pub(crate) const LOAD_CORE: &str = "1";

/// One that listens; it is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: String,
}

impl Running {
    /// Starts one, within the program `wrap` if there is one.
    pub(crate) fn start(programs: &Path, server: Server, wrap: &[String]) -> io::Result<Running> {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CORE]).args(wrap).arg(programs.join(server.program));
        if let Some(backend) = server.backend {
            command.env("HOTLOOP_BACKEND", backend);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim_end().strip_prefix(READY) {
            Some(addr) => Ok(Running { child, addr: addr.to_owned() }),
            None => {
                child.kill()?;
                Err(io::Error::other(format!("{}: its first line is {line:?}", server.name)))
            }
        }
    }

    /// `taskset` has become the server itself.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it end, and lets what it runs within write what it has to say.
    pub(crate) fn terminate(mut self) -> io::Result<()> {
        Command::new("kill").args(["-TERM", &self.pid().to_string()]).status()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the load has told then.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
