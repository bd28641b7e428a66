//! What lies between the nodes: two links, a NAT in front of the client, and everything that goes wrong there.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quinn::udp::EcnCodepoint;

use crate::random::{Random, mix};

/// Outside addresses of the NAT: `203.0.113.0/24` is for documentation (RFC 5737).
const OUTSIDE: [u8; 3] = [203, 0, 113];

/// A UDP datagram.
#[derive(Debug, Clone)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ecn: Option<EcnCodepoint>,
    pub contents: Box<[u8]>,
}

/// A socket's received packets.
#[derive(Debug, Default)]
pub struct Inbox {
    pub packets: VecDeque<Packet>,
    pub reader: Option<Waker>,
}

/// How one direction treats its packets.
#[derive(Debug, Clone)]
pub struct Link {
    /// One way, at least.
    pub latency: Duration,
    /// On top, evenly spread, for each packet of its own: packets overtake each other.
    pub jitter: Duration,
    /// Bytes per second.
    pub rate: u64,
    /// What waits longer than this for the link is dropped.
    pub queue: Duration,
    pub loss: f64,
    pub duplication: f64,
    /// Packets that come a `latency` later than they should.
    pub reordering: f64,
    pub busy_until: Option<Instant>,
}

impl Link {
    /// A good line: nothing is lost, doubled or overtaken.
    pub fn perfect(latency: Duration) -> Self {
        Self {
            latency,
            jitter: Duration::ZERO,
            rate: 12_500_000,
            queue: Duration::from_secs(1),
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            busy_until: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

/// What became of the packets, both directions together.
#[derive(Debug, Default, Clone, Copy)]
pub struct Traffic {
    pub packets: u64,
    pub bytes: u64,
    /// By chance, in outages and by full queues.
    pub lost: u64,
    pub duplicated: u64,
    /// Arrived after one that was sent later.
    pub overtaken: u64,
    /// Larger than the path allows.
    pub oversized: u64,
    /// To addresses that the NAT no longer knows.
    pub misdirected: u64,
    pub rebindings: u64,
    pub mtu_changes: u64,
    pub outages: u64,
}

#[derive(Debug)]
pub struct Network {
    random: Random,
    epoch: Instant,
    sockets: HashMap<SocketAddr, Arc<Mutex<Inbox>>>,
    in_flight: BTreeMap<(Instant, u64), (Direction, Packet)>,
    /// Number of the next packet, in the order of sending.
    next: u64,
    newest_arrived: [u64; 2],
    pub up: Link,
    pub down: Link,
    /// Largest UDP payload.
    pub mtu: usize,
    dark_until: Option<Instant>,
    server: Option<SocketAddr>,
    /// Inside and outside address of the client's sockets. Few: a list does.
    nat: Vec<(SocketAddr, SocketAddr)>,
    outside_ip: u8,
    next_port: u16,
    pub traffic: Traffic,
    trace: u64,
}

impl Network {
    pub fn new(seed: u64, epoch: Instant) -> Self {
        let link = Link::perfect(Duration::from_millis(20));
        Self {
            random: Random::new(seed, "network"),
            epoch,
            sockets: HashMap::new(),
            in_flight: BTreeMap::new(),
            next: 0,
            newest_arrived: [0; 2],
            up: link.clone(),
            down: link,
            mtu: 1500,
            dark_until: None,
            server: None,
            nat: Vec::new(),
            outside_ip: 1,
            next_port: 1024,
            traffic: Traffic::default(),
            trace: 0,
        }
    }

    /// The node behind this address is the server; all others are clients behind the NAT.
    pub fn bind(&mut self, address: SocketAddr) -> io::Result<Arc<Mutex<Inbox>>> {
        if self.sockets.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = Arc::<Mutex<Inbox>>::default();
        self.sockets.insert(address, inbox.clone());
        // The server is there before its clients.
        self.server.get_or_insert(address);
        Ok(inbox)
    }

    pub fn unbind(&mut self, address: SocketAddr) {
        self.sockets.remove(&address);
        self.nat.retain(|(inside, _)| *inside != address);
    }

    /// The NAT forgets everything: the client's next packet comes from elsewhere, and what is sent to where it was before is
    /// lost. A new port, and, if wanted, a new address.
    pub fn rebind(&mut self, new_ip: bool) {
        tracing::info!(new_ip, "a rebinding");
        self.nat.clear();
        if new_ip {
            self.outside_ip = self.outside_ip % 250 + 1;
        }
        self.traffic.rebindings += 1;
    }

    pub fn set_mtu(&mut self, mtu: usize) {
        tracing::info!(mtu, "another MTU");
        self.mtu = mtu;
        self.traffic.mtu_changes += 1;
    }

    /// Nothing arrives that is sent within `duration`.
    pub fn go_dark(&mut self, now: Instant, duration: Duration) {
        tracing::info!(?duration, "an outage");
        self.dark_until = Some(now + duration);
        self.traffic.outages += 1;
    }

    /// A number that two runs have in common if all their packets had time, direction, size and fate in common.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    pub fn send(&mut self, now: Instant, mut packet: Packet) {
        let direction = if Some(packet.from) == self.server {
            Direction::Down
        } else {
            Direction::Up
        };
        self.traffic.packets += 1;
        self.traffic.bytes += packet.contents.len() as u64;
        let size = packet.contents.len() as u64;
        let fate = self.fate(now, direction, &mut packet);
        let delays = fate.as_ref().map_or(0, |arrivals| {
            arrivals
                .iter()
                .fold(0, |sum, at| mix(sum ^ (*at - self.epoch).as_nanos() as u64))
        });
        let sent = (now - self.epoch).as_nanos() as u64;
        for word in [sent, size << 1 | u64::from(direction == Direction::Up), delays] {
            self.trace = mix(self.trace.rotate_left(1) ^ word);
        }
        tracing::trace!(?direction, size, arrives = fate.is_some(), "a packet");
        for at in fate.into_iter().flatten() {
            self.next += 1;
            self.in_flight.insert((at, self.next), (direction, packet.clone()));
        }
    }

    /// When the packet arrives: never, once or twice.
    fn fate(&mut self, now: Instant, direction: Direction, packet: &mut Packet) -> Option<Vec<Instant>> {
        match direction {
            Direction::Up => packet.from = self.translate(packet.from),
            // Whether the NAT still knows it, is decided when it gets there.
            Direction::Down => {}
        }
        if packet.contents.len() > self.mtu {
            self.traffic.oversized += 1;
            return None;
        }
        let link = match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        };
        let start = link.busy_until.map_or(now, |busy| busy.max(now));
        let is_dark = self.dark_until.is_some_and(|until| now < until);
        if is_dark || start - now > link.queue || self.random.chance(link.loss) {
            self.traffic.lost += 1;
            return None;
        }
        let took = Duration::from_nanos(packet.contents.len() as u64 * 1_000_000_000 / link.rate);
        link.busy_until = Some(start + took);
        let copies = if self.random.chance(link.duplication) { 2 } else { 1 };
        self.traffic.duplicated += copies - 1;
        let mut arrivals = Vec::new();
        for _ in 0..copies {
            let mut delay = link.latency;
            if !link.jitter.is_zero() {
                delay += Duration::from_nanos(self.random.below(link.jitter.as_nanos() as u64));
            }
            if self.random.chance(link.reordering) {
                delay += link.latency;
            }
            arrivals.push(start + took + delay);
        }
        Some(arrivals)
    }

    fn translate(&mut self, inside: SocketAddr) -> SocketAddr {
        if let Some((_, outside)) = self.nat.iter().find(|(known, _)| *known == inside) {
            return *outside;
        }
        let [a, b, c] = OUTSIDE;
        let outside = SocketAddr::new(Ipv4Addr::new(a, b, c, self.outside_ip).into(), self.next_port);
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        self.nat.push((inside, outside));
        outside
    }

    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|(&(at, _), _)| at)
    }

    /// Put what has arrived into the sockets; returns who waits for it.
    pub fn deliver(&mut self, now: Instant) -> Vec<Waker> {
        let mut readers = Vec::new();
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= now
        {
            let ((_, number), (direction, mut packet)) = entry.remove_entry();
            let newest = &mut self.newest_arrived[usize::from(direction == Direction::Down)];
            if number < *newest {
                self.traffic.overtaken += 1;
            }
            *newest = number.max(*newest);
            if is_outside(packet.to.ip()) {
                match self.nat.iter().find(|(_, outside)| *outside == packet.to) {
                    Some((inside, _)) => packet.to = *inside,
                    None => {
                        self.traffic.misdirected += 1;
                        continue;
                    }
                }
            }
            // Nobody there: a host that does not answer.
            let Some(inbox) = self.sockets.get(&packet.to) else {
                continue;
            };
            let mut inbox = inbox.lock();
            inbox.packets.push_back(packet);
            readers.extend(inbox.reader.take());
        }
        readers
    }
}

fn is_outside(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == OUTSIDE)
}
