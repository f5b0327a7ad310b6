//! The world: hosts, loops, links, peers, and the order in which things happen.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::backend::sim::{HostIndex, Network, NodeOptions, Report, Shared, Sim, Stepped, What};
use crate::event_loop::Loop;
use crate::handler::Handler;
use crate::net::Net;
use crate::time::Time;

use super::node::{AnyHandler, Host, Node, Observed, Runner};
use super::seeds;

/// Where the clock starts, unless a test chooses.
const START: Time = Time::from_nanos(1_000_000_000);
/// How many lines of its trace a failing run prints; all with the environment variable
/// `HOTLOOP_TRACE=all`.
const SHOWN_LINES: usize = 60;
/// How many turns in a row a loop may take without a reason.
const IDLE_TURNS_MAX: u32 = 2;

/// A simulated network of hosts with a virtual clock, drawn from one seed.
///
/// See the [module](crate::sim) for how to use it.
///
/// # Panics
///
/// Every method that is given a host, a node or a peer panics, naming it, if it is another
/// world's, and if it needs a host that is on, or that runs a loop, and this one does not.
///
/// A world that is dropped because its test panics prints its seed and the end of its trace, with
/// `HOTLOOP_TRACE=all` in the environment the whole.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use hotloop::{ConnId, Handler, Net};
/// # struct Echo;
/// # impl Handler for Echo {
/// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
/// #         net.write(conn, data);
/// #         data.len()
/// #     }
/// # }
/// use hotloop::sim::{NodeOptions, Script, World};
///
/// let mut world = World::new(1);
/// let server = world.node("server", NodeOptions::default(), Echo);
/// let addr = world.addr(server, 7);
/// world.net(server).listen(addr)?;
/// let host = world.host("client");
/// let client = world.play(host, addr, Script::new().send("hello").expect("hello"));
/// world.run_until("the echo", Duration::from_secs(1), |world| world.state(client).is_done);
/// println!("{}", world.trace());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct World {
    pub(super) id: u32,
    seed: u64,
    /// The loops of the hosts that have one.
    runners: Vec<Option<Runner>>,
    pub(super) shared: Shared,
    /// Whose turn it is, or was when its handler panicked.
    turning: Option<HostIndex>,
    /// Loops that were lent since the last step: they may have work.
    touched: Vec<HostIndex>,
    is_silent: bool,
}

impl World {
    /// Makes a world without any host, whose clocks show one second.
    pub fn new(seed: u64) -> World {
        World::starting_at(seed, START)
    }

    /// Makes a world whose clocks start anywhere: near 2^32 milliseconds of uptime, say.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.write(conn, data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::Time;
    /// use hotloop::sim::{NodeOptions, World};
    ///
    /// // Half a second before 2^32 milliseconds of uptime.
    /// let start = Time::from_nanos(((1 << 32) - 500) * 1_000_000);
    /// let mut world = World::starting_at(1, start);
    /// let server = world.node("server", NodeOptions::default(), Echo);
    /// world.net(server).start_timer(Duration::from_secs(1), 0);
    /// world.run_for(Duration::from_secs(2));
    /// assert_eq!(world.net(server).stats().timers_fired, 1);
    /// ```
    pub fn starting_at(seed: u64, start: Time) -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        World {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            seed,
            runners: Vec::new(),
            shared: Shared::new(Network::new(seed, start)),
            turning: None,
            touched: Vec::new(),
            is_silent: false,
        }
    }

    /// Returns the seed it was made from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Makes it say nothing when it is dropped by a panic: for a test that tries many runs and
    /// expects some of them to fail.
    pub fn silence(&mut self) {
        self.is_silent = true;
    }

    /// Returns the virtual time.
    pub fn now(&self) -> Time {
        self.shared.lock().now
    }

    /// Draws a number for the test's own choices, from the same seed.
    ///
    /// # Examples
    ///
    /// ```
    /// use hotloop::sim::World;
    ///
    /// let mut world = World::new(7);
    /// let clients = 1 + world.random() % 20;
    /// assert_eq!(1 + World::new(7).random() % 20, clients, "the seed repeats it");
    /// ```
    pub fn random(&mut self) -> u64 {
        self.shared.lock().random.draw()
    }

    /// Adds a host that runs a loop with this handler, inside
    /// [`Checked`](crate::Checked).
    ///
    /// # Panics
    ///
    /// If the configuration contradicts itself; the message says how. If there is a host of that
    /// name.
    pub fn node<H: Handler + 'static>(
        &mut self,
        name: &str,
        options: NodeOptions,
        handler: H,
    ) -> Node<H> {
        let host = self.add_machine(name, &options);
        self.start(host, options, handler)
    }

    /// Starts a loop on a host whose loop is gone: it was [`shut`](World::shut) or has
    /// [`crashed`](World::crash).
    ///
    /// # Panics
    ///
    /// As [`node`](World::node), and if the host runs a loop.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.write(conn, data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::sim::{NodeOptions, Script, World};
    ///
    /// let mut world = World::new(1);
    /// let server = world.node("server", NodeOptions::default(), Echo);
    /// let addr = world.addr(server, 7);
    /// world.net(server).listen(addr)?;
    /// world.crash(server);
    /// let server = world.restart(server, NodeOptions::default(), Echo);
    /// let host = world.host("client");
    /// let early = world.play(host, addr, Script::new().expect_refused());
    /// world.run_for(Duration::from_secs(1));
    /// assert!(world.state(early).is_done, "the new process does not listen yet");
    /// world.net(server).listen(addr)?;
    /// let late = world.play(host, addr, Script::new().send("hello").expect("hello"));
    /// world.run_for(Duration::from_secs(1));
    /// assert!(world.state(late).is_done);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn restart<H: Handler + 'static>(
        &mut self,
        host: impl Into<Host>,
        options: NodeOptions,
        handler: H,
    ) -> Node<H> {
        let host = self.detached(host);
        assert!(self.runners[host].is_none(), "host {} runs a loop", self.name(host));
        self.shared.lock().restart(host, &options);
        self.start(host, options, handler)
    }

    fn start<H: Handler + 'static>(
        &mut self,
        host: HostIndex,
        options: NodeOptions,
        handler: H,
    ) -> Node<H> {
        let event_loop = self.open_loop(host, options).unwrap_or_else(|error| panic!("{error}"));
        let handler = Observed::new(handler, self.shared.clone(), host);
        self.runners[host] = Some(Runner::new(event_loop, Box::new(handler)));
        self.plan_turn(host);
        Node::new(self.host_at(host))
    }

    fn open_loop(&self, host: HostIndex, options: NodeOptions) -> io::Result<Loop> {
        options.config.check()?;
        Ok(Loop::on(options.config, Box::new(Sim::new(self.shared.clone(), host))))
    }

    /// Adds a host without a loop, for peers.
    ///
    /// # Panics
    ///
    /// If there is one of that name.
    pub fn host(&mut self, name: &str) -> Host {
        let host = self.add_machine(name, &NodeOptions::default());
        self.host_at(host)
    }

    /// Adds a host whose loop the caller drives: [`Loop::turn`] lets the world go on until the
    /// loop has something to do. The loops of other hosts stand still meanwhile, until the
    /// world is run again.
    ///
    /// # Errors
    ///
    /// A configuration that contradicts itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.write(conn, data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::sim::{NodeOptions, Script, World};
    ///
    /// let mut world = World::new(1);
    /// let (host, mut event_loop) = world.attach("server", NodeOptions::default())?;
    /// let addr = world.addr(host, 7);
    /// event_loop.net().listen(addr)?;
    /// let client = world.host("client");
    /// let client = world.play(client, addr, Script::new().send("hello").expect("hello"));
    /// while !world.state(client).is_done {
    ///     event_loop.turn(&mut Echo, Duration::from_millis(16))?;
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn attach(&mut self, name: &str, options: NodeOptions) -> io::Result<(Host, Loop)> {
        options.config.check()?;
        let host = self.add_machine(name, &options);
        self.shared.lock().machine_mut(host).is_attached = true;
        let event_loop = self.open_loop(host, options)?;
        Ok((self.host_at(host), event_loop))
    }

    fn add_machine(&mut self, name: &str, options: &NodeOptions) -> HostIndex {
        self.runners.push(None);
        self.shared.lock().add_machine(name, options)
    }

    fn host_at(&self, index: HostIndex) -> Host {
        Host { world: self.id, index }
    }

    fn name(&self, host: HostIndex) -> String {
        self.shared.lock().machine_mut(host).name.clone()
    }

    /// # Panics
    ///
    /// If the host is another world's.
    pub(super) fn index(&self, host: impl Into<Host>) -> HostIndex {
        let host = host.into();
        assert_eq!(host.world, self.id, "{host:?} does not exist in world {}", self.id);
        host.index
    }

    /// # Panics
    ///
    /// If the host is off.
    pub(super) fn up(&self, host: impl Into<Host>) -> HostIndex {
        let host = self.index(host);
        let is_up = self.shared.lock().machine_mut(host).is_up;
        assert!(is_up, "host {} has crashed", self.name(host));
        host
    }

    /// # Panics
    ///
    /// If the host runs no loop.
    pub(super) fn running(&self, host: impl Into<Host>) -> HostIndex {
        let host = self.index(host);
        let runs = self.runners[host].is_some() || self.is_attached(host);
        assert!(runs, "host {} runs no loop", self.name(host));
        host
    }

    /// # Panics
    ///
    /// If the caller drives the host's loop.
    fn detached(&self, host: impl Into<Host>) -> HostIndex {
        let host = self.index(host);
        assert!(!self.is_attached(host), "host {}: its loop is attached", self.name(host));
        host
    }

    fn is_attached(&self, host: HostIndex) -> bool {
        self.shared.lock().machine_mut(host).is_attached
    }

    /// Returns an address of a host.
    pub fn addr(&self, host: impl Into<Host>, port: u16) -> SocketAddr {
        let host = self.index(host);
        SocketAddr::new(IpAddr::V4(self.shared.lock().machine_mut(host).ip), port)
    }

    fn runner(&mut self, host: HostIndex) -> &mut Runner {
        let Some(runner) = &mut self.runners[host] else {
            panic!("host {} runs no loop", self.shared.lock().machine_mut(host).name);
        };
        runner
    }

    /// Lends a node's loop. What it waits for by itself, in [`Loop::turn`] with a time to wait or
    /// in [`Loop::close_all`], lets the network and the peers go on, but no other node.
    ///
    /// # Panics
    ///
    /// If the host runs no loop (any more).
    pub fn event_loop<H: 'static>(&mut self, node: Node<H>) -> &mut Loop {
        let host = self.index(node);
        self.touched.push(host);
        &mut self.runner(host).event_loop
    }

    /// Lends what a node's callbacks are lent, to listen and to connect for instance.
    ///
    /// # Panics
    ///
    /// If the host runs no loop (any more).
    pub fn net<H: 'static>(&mut self, node: Node<H>) -> &mut Net {
        self.event_loop(node).net()
    }

    /// Closes all connections of a node, as its process would before it ends
    /// ([`Loop::close_all`]). The network and the peers go on meanwhile, but no other node.
    ///
    /// # Panics
    ///
    /// If the host runs no loop (any more); passes on a panic of the handler.
    pub fn close_all<H: Handler + 'static>(&mut self, node: Node<H>, grace: Duration) {
        let host = self.index(node);
        self.touched.push(host);
        let Runner { event_loop, handler, .. } = self.runner(host);
        let closed = event_loop.close_all(&mut **handler, grace);
        closed.expect("a simulated wait does not fail");
    }

    /// Lends a node's handler.
    ///
    /// # Panics
    ///
    /// If the host runs no loop (any more), or one with another handler.
    pub fn handler<H: Handler + 'static>(&mut self, node: Node<H>) -> &mut H {
        let host = self.index(node);
        observed::<H>(&mut self.runner(host).handler).checked.inner_mut()
    }

    /// Calls something with a node's handler and what its callbacks are lent, between turns.
    ///
    /// # Panics
    ///
    /// As [`handler`](World::handler).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.write(conn, data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::sim::{NodeOptions, World};
    ///
    /// let mut world = World::new(1);
    /// let server = world.node("server", NodeOptions::default(), Echo);
    /// world.call(server, |_: &mut Echo, net| {
    ///     net.start_timer(Duration::from_secs(1), 0);
    /// });
    /// world.run_for(Duration::from_secs(2));
    /// assert_eq!(world.net(server).stats().timers_fired, 1);
    /// ```
    pub fn call<H: Handler + 'static, R>(
        &mut self,
        node: Node<H>,
        call: impl FnOnce(&mut H, &mut Net) -> R,
    ) -> R {
        let host = self.index(node);
        self.touched.push(host);
        let Runner { event_loop, handler, .. } = self.runner(host);
        call(observed::<H>(handler).checked.inner_mut(), event_loop.net())
    }

    /// Returns whether a node's handler has called [`Net::stop`]; it is given no more turns until
    /// it is [resumed](World::resume).
    pub fn is_stopped<H: 'static>(&mut self, node: Node<H>) -> bool {
        let host = self.index(node);
        self.runner(host).is_stopped
    }

    /// Gives a node turns again that was stopped.
    pub fn resume<H: 'static>(&mut self, node: Node<H>) {
        let host = self.index(node);
        self.runner(host).is_stopped = false;
        self.plan_turn(host);
    }

    /// Ends a node as its process would end: drops the loop, whose kernel closes what it has open.
    /// Returns the handler.
    ///
    /// # Panics
    ///
    /// As [`handler`](World::handler).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use hotloop::{ConnId, Handler, Net};
    /// # struct Echo;
    /// # impl Handler for Echo {
    /// #     fn on_data(&mut self, net: &mut Net, conn: ConnId, data: &[u8]) -> usize {
    /// #         net.write(conn, data);
    /// #         data.len()
    /// #     }
    /// # }
    /// use hotloop::sim::{NodeOptions, Script, World};
    ///
    /// let mut world = World::new(1);
    /// let server = world.node("server", NodeOptions::default(), Echo);
    /// let addr = world.addr(server, 7);
    /// world.net(server).listen(addr)?;
    /// let host = world.host("client");
    /// let client = world.play(host, addr, Script::new().expect_end());
    /// world.run_for(Duration::from_secs(1));
    /// let Echo = world.shut(server);
    /// world.run_for(Duration::from_secs(1));
    /// assert!(world.state(client).is_done, "the kernel has closed the connection");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn shut<H: Handler + 'static>(&mut self, node: Node<H>) -> H {
        // Refuses before anything is taken.
        self.handler(node);
        let host = self.index(node);
        let runner = self.runners[host].take().expect("it was there a moment ago");
        self.shared.lock().note(host, What::Host("is shut"));
        drop(runner.event_loop);
        let observed = runner.handler.into_any().downcast::<Observed<H>>();
        observed.expect("its type was looked at first").checked.into_inner()
    }

    /// Turns a host off: no FIN, no RST, no answer. Its loop and handler are dropped; it comes
    /// back with [`restart`](World::restart).
    ///
    /// # Panics
    ///
    /// If its loop is [attached](World::attach): that one is the caller's to drop.
    pub fn crash(&mut self, host: impl Into<Host>) {
        let host = self.detached(host);
        self.shared.lock().crash(host);
        self.runners[host] = None;
    }

    /// Lets the next thing happen: an event or a turn. Returns false if nothing ever will.
    ///
    /// # Panics
    ///
    /// If what a script expects did not come, or a rule of the contract is broken; passes on a
    /// panic of a handler, whose node goes on in the next step.
    pub fn step(&mut self) -> bool {
        self.advance(|network| network.step(Time::NEVER))
    }

    /// Lets so much time pass, and everything happen that happens in it.
    ///
    /// # Panics
    ///
    /// As [`step`](World::step).
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now() + duration;
        while self.advance(|network| network.run(end)) {}
        let mut network = self.shared.lock();
        network.now = network.now.max(end);
    }

    /// Runs until something is true.
    ///
    /// # Panics
    ///
    /// If it is not within so much time, with `what`; as [`step`](World::step).
    pub fn run_until(
        &mut self,
        what: &str,
        within: Duration,
        mut done: impl FnMut(&mut World) -> bool,
    ) {
        let end = self.now() + within;
        while !done(self) {
            let goes_on = self.advance(|network| network.step(end));
            assert!(goes_on || done(self), "never within {within:?}: {what}");
        }
    }

    /// Runs until nothing will ever happen any more; returns false if that takes longer.
    ///
    /// # Panics
    ///
    /// As [`step`](World::step).
    pub fn run_until_idle(&mut self, within: Duration) -> bool {
        let end = self.now() + within;
        while self.advance(|network| network.run(end)) {}
        self.shared.lock().next_at().is_none()
    }

    /// Lets the network go on, and gives a turn to the loop that is due; returns whether anything
    /// has happened.
    fn advance(&mut self, go_on: impl FnOnce(&mut Network) -> Stepped) -> bool {
        if let Some(host) = self.turning.take() {
            self.shared.lock().machine_mut(host).is_given = false;
            self.plan_turn(host);
        }
        self.plan_touched();
        let mut network = self.shared.lock();
        network.notice_signals();
        let stepped = go_on(&mut network);
        network.tell_failure();
        drop(network);
        if let Stepped::Turn(host) = stepped {
            self.give_turn(host);
        }
        stepped != Stepped::Quiet
    }

    /// Plans the turns of loops that were lent, if there is something for them to do. To have
    /// looked at a loop changes nothing.
    fn plan_touched(&mut self) {
        while let Some(host) = self.touched.pop() {
            if let Some(runner) = &self.runners[host] {
                plan_next_turn(&mut self.shared.lock(), host, &runner.event_loop);
            }
        }
    }

    fn plan_turn(&self, host: HostIndex) {
        let mut network = self.shared.lock();
        let now = network.now;
        network.plan_turn(host, now);
    }

    fn give_turn(&mut self, host: HostIndex) {
        let Some(runner) = self.runners[host].as_mut().filter(|runner| !runner.is_stopped) else {
            return;
        };
        self.turning = Some(host);
        let mut network = self.shared.lock();
        network.note(host, What::Host("turn"));
        network.machine_mut(host).is_given = true;
        drop(network);
        let turn = runner.event_loop.turn(&mut *runner.handler, Duration::MAX);
        let turn = turn.expect("a simulated wait does not fail");
        self.turning = None;
        runner.is_stopped = turn.stopped;
        let mut network = self.shared.lock();
        network.machine_mut(host).is_given = false;
        plan_next_turn(&mut network, host, &runner.event_loop);
        network.charge_turn(host);
        let machine = network.machine_mut(host);
        let disturbed = std::mem::take(&mut machine.disturbed);
        let idle = turn.callbacks == 0 && machine.turn_progress == 0 && machine.turn_events == 0;
        let unreasoned = idle && runner.was_pending && !disturbed;
        runner.idle_turns = if unreasoned { runner.idle_turns + 1 } else { 0 };
        runner.was_pending = turn.pending && !runner.event_loop.was_asked();
        let name = &machine.name;
        let spins = runner.idle_turns > IDLE_TURNS_MAX;
        assert!(!spins, "C14: the loop of {name} takes turns in which nothing happens");
    }

    /// Returns what has happened, one line per event. A seed makes the same trace every time, byte
    /// for byte. Of a long run the last 131,072 lines are kept.
    pub fn trace(&self) -> String {
        self.shared.lock().trace_text(usize::MAX)
    }

    /// Returns what the world has done: system calls, faults by kind.
    pub fn report(&self) -> Report {
        self.shared.lock().report.clone()
    }

    /// Returns how many descriptors a host's loop has open.
    pub fn open_sockets(&self, host: impl Into<Host>) -> usize {
        let host = self.index(host);
        self.shared.lock().machine_mut(host).open_descriptors()
    }
}

/// Plans the turn that a loop says it needs, if no event comes before.
fn plan_next_turn(network: &mut Network, host: HostIndex, event_loop: &Loop) {
    if let Some(wait) = event_loop.next_wait() {
        let shown = network.now.max(network.machine_mut(host).clock);
        network.plan_turn(host, shown + wait);
    }
}

fn observed<H: Handler + 'static>(handler: &mut Box<dyn AnyHandler>) -> &mut Observed<H> {
    let observed = (**handler).as_any().downcast_mut::<Observed<H>>();
    let wanted = std::any::type_name::<H>();
    observed.unwrap_or_else(|| panic!("the host runs a handler of another type than {wanted}"))
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.is_silent && !seeds::is_quiet() {
            let seed = self.seed;
            let is_all = std::env::var_os("HOTLOOP_TRACE").is_some_and(|lines| lines == "all");
            let most = if is_all { usize::MAX } else { SHOWN_LINES };
            let trace = self.shared.lock().trace_text(most);
            let how = "with for_seeds, to replay it";
            eprintln!("seed {seed} has failed; {how}: HOTLOOP_SEED={seed}\n{trace}");
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("World");
        text.field("seed", &self.seed).field("now", &self.now()).finish_non_exhaustive()
    }
}
