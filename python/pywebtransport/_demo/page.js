// The page of `python -m pywebtransport serve`. Three parts: the link to the server (no DOM), why a connection failed
// in plain words, and the buttons and figures.

const PING = 1, BURST = 2, TEXT = 3; // first byte of this page's datagrams
const PING_INTERVAL = 200; // ms
const LATE = 2000; // ms after which a datagram counts as lost
const BURST_COUNT = 2000;
const BURST_TIME = 3000; // ms; some browsers take their time over each datagram
const BULK_BYTES = 32 * 1024 * 1024;
const CHUNK = 64 * 1024;
const READY_TIMEOUT = 10000; // ms
const encoder = new TextEncoder();
const decoder = new TextDecoder();

// ---------------------------------------------------------------------------------------------------------- the link

/** One WebTransport session with the counters that the page shows. */
class Link {
  constructor(url, hash) {
    this.transport = new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value: hash }] });
    this.transport.closed.catch(() => {}); // whoever asks closed() sees it
    this.counts = { sent: 0, received: 0, lost: 0, bytesSent: 0, bytesReceived: 0, bidi: 0, uni: 0, server: 0 };
    this.roundTrips = [];
    this.pending = new Map(); // sequence number -> time sent
    this.sequence = 0;
    this.burstEchoes = 0;
    this.texts = new Map(); // sequence number -> resolve
    this.answers = []; // resolvers that wait for a unidirectional stream from the server
  }

  async ready() {
    await Promise.race([
      this.transport.ready,
      new Promise((_, reject) => setTimeout(() => reject(new Error("no answer within ten seconds")), READY_TIMEOUT)),
    ]);
    const { datagrams } = this.transport;
    datagrams.incomingHighWaterMark = 1000; // some browsers keep only one that nobody has read yet
    // createWritable() is the newer shape, writable the older one.
    this.datagramWriter = (datagrams.createWritable ? datagrams.createWritable() : datagrams.writable).getWriter();
    this.#receiveDatagrams().catch(() => {});
    this.#acceptStreams(this.transport.incomingUnidirectionalStreams, (stream) => this.#takeUni(stream));
    this.#acceptStreams(this.transport.incomingBidirectionalStreams, () => { this.counts.server++; });
    this.pinger = setInterval(() => this.ping(), PING_INTERVAL);
    this.transport.closed.catch(() => {}).finally(() => clearInterval(this.pinger));
  }

  close(code, reason) {
    this.transport.close({ closeCode: code, reason });
  }

  /** Resolves with {closeCode, reason}, or with {error} when the session was lost. */
  closed() {
    return this.transport.closed.catch((error) => ({ error }));
  }

  async send(kind, body = new Uint8Array()) {
    const sequence = ++this.sequence;
    const datagram = new Uint8Array(5 + body.length);
    datagram[0] = kind;
    new DataView(datagram.buffer).setUint32(1, sequence);
    datagram.set(body, 5);
    this.pending.set(sequence, performance.now());
    this.counts.sent++;
    await this.datagramWriter.write(datagram);
    return sequence;
  }

  ping() {
    const now = performance.now();
    for (const [sequence, time] of this.pending) {
      if (now - time < LATE) break; // in order of sending
      this.pending.delete(sequence);
      this.counts.lost++;
    }
    this.send(PING).catch(() => {});
  }

  async text(message) {
    const started = performance.now();
    const sequence = await this.send(TEXT, encoder.encode(message));
    const body = await Promise.race([
      new Promise((resolve) => this.texts.set(sequence, resolve)),
      new Promise((_, reject) => setTimeout(() => reject(new Error("the datagram or its echo was lost")), LATE)),
    ]);
    return { text: decoder.decode(body), ms: performance.now() - started };
  }

  async burst() {
    const started = performance.now();
    this.burstEchoes = 0;
    let sent = 0;
    while (sent < BURST_COUNT && performance.now() - started < BURST_TIME) {
      await this.send(BURST, new Uint8Array(200));
      sent++;
    }
    let last = started;
    let seen = 0;
    for (;;) { // until nothing came for a while
      await new Promise((resolve) => setTimeout(resolve, 20));
      const now = performance.now();
      if (this.burstEchoes !== seen) { seen = this.burstEchoes; last = now; }
      if (seen === sent || now - last > 300) break;
    }
    return { sent, echoed: seen, seconds: (last - started) / 1000 };
  }

  /** Write `bytes` in chunks on a bidirectional stream, read the echo meanwhile: {received, seconds}. */
  async bidi(body, repeat = 1) {
    const stream = await this.transport.createBidirectionalStream();
    this.counts.bidi++;
    const started = performance.now();
    const writing = (async () => {
      const writer = stream.writable.getWriter();
      for (let number = 0; number < repeat; number++) {
        await writer.ready;
        writer.write(body).catch(() => {}); // close() reports it
        this.counts.bytesSent += body.length;
      }
      await writer.close();
    })();
    const received = await this.#readAll(stream.readable, repeat === 1);
    await writing;
    return { ...received, seconds: (performance.now() - started) / 1000 };
  }

  /** One unidirectional stream; the server answers with one of its own. */
  async uni(body) {
    const started = performance.now();
    const answer = new Promise((resolve) => this.answers.push(resolve));
    const writer = (await this.transport.createUnidirectionalStream()).getWriter();
    this.counts.uni++;
    this.counts.bytesSent += body.length;
    writer.write(body).catch(() => {});
    await writer.close();
    return { ...(await answer), seconds: (performance.now() - started) / 1000 };
  }

  async #takeUni(stream) {
    this.counts.server++;
    const result = await this.#readAll(stream, true);
    this.answers.shift()?.(result);
  }

  async #readAll(readable, keep) {
    const reader = readable.getReader();
    let length = 0;
    let text = "";
    const streaming = new TextDecoder();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return { length, text };
      length += value.length;
      this.counts.bytesReceived += value.length;
      if (keep) text += streaming.decode(value, { stream: true });
    }
  }

  async #acceptStreams(streams, take) {
    const reader = streams.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        Promise.resolve(take(value)).catch(() => {});
      }
    } catch { /* the session ended; closed() tells why */ }
  }

  async #receiveDatagrams() {
    const reader = this.transport.datagrams.readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const sequence = new DataView(value.buffer, value.byteOffset).getUint32(1);
      const sentAt = this.pending.get(sequence);
      if (sentAt === undefined) continue; // counted as lost already
      this.pending.delete(sequence);
      this.counts.received++;
      if (value[0] === PING) {
        this.roundTrips.push(performance.now() - sentAt);
        if (this.roundTrips.length > 100) this.roundTrips.shift();
      } else if (value[0] === BURST) {
        this.burstEchoes++;
      } else if (value[0] === TEXT) {
        this.texts.get(sequence)?.(value.slice(5));
        this.texts.delete(sequence);
      }
    }
  }
}

// -------------------------------------------------------------------------------------------- why it did not connect

/** What the browser lacks, before any attempt; null when it has all that is needed. */
function missingFeature() {
  if (!window.isSecureContext) {
    return ["This page is not a secure context",
      `Browsers offer WebTransport only to https pages and to localhost, and this one came from ${location.origin}. ` +
      `Open it on the machine that runs the server, as http://localhost:${location.port}/.`];
  }
  if (!("WebTransport" in window)) {
    return ["This browser has no WebTransport",
      "Chrome and Edge have it since version 97, Firefox since 114, Safari since 26.4. In Firefox it can be switched " +
      "off: see network.webtransport.enabled in about:config."];
  }
  return null;
}

/** Plain words for a failed attempt, from the error and from what the server counted meanwhile. */
function explainFailure(error, config, before, after) {
  const grew = (name) => (after?.server?.[name] ?? 0) > (before?.server?.[name] ?? 0);
  if (error.name === "NotSupportedError" || error instanceof TypeError) {
    return ["This browser does not accept certificates by their hash",
      "The server's certificate was made for this run and no authority signed it, so the browser has to accept it by " +
      "its SHA-256 (serverCertificateHashes). Chrome 100, Firefox 125 and Safari 26.4 or newer can."];
  }
  if (Date.now() / 1000 > config.expires_at) {
    return ["The server's certificate is too old",
      `It ended on ${new Date(config.expires_at * 1000).toLocaleString()}. Browsers accept a certificate by its hash ` +
      "only while it is valid, and for at most 14 days: restart the server to get a new one."];
  }
  if (!after) {
    return ["The server is gone", "Even the web server of this page no longer answers: start “python -m pywebtransport serve” again."];
  }
  if (grew("connections_accepted")) {
    return ["The connection worked, the session did not",
      "QUIC and TLS were fine, then the server refused the session or closed it at once. Its log says why."];
  }
  if (grew("connection_errors") || grew("connections_rejected")) {
    return ["The handshake failed",
      "The server saw this browser, but they did not come to terms. Most likely the browser refused the certificate: " +
      "its hash is not the one this page knows (was the server restarted? reload the page), or this computer's clock is wrong."];
  }
  return ["Not one packet reached the server",
    `WebTransport runs over UDP, here to port ${config.port}. A firewall, a VPN or a proxy may block it, or QUIC is ` +
    "switched off in this browser (a policy, chrome://flags, or --disable-quic)."];
}

async function getJson(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: HTTP status ${response.status}`);
  return response.json();
}

// ----------------------------------------------------------------------------------------------------------- the page

const element = (id) => document.getElementById(id);
const show = (id, text) => { element(id).textContent = text; };
const buttons = [...document.querySelectorAll("[data-action]")];
let link = null;
let config = null;
let bulkRunning = false;

const actions = {
  async sendBidi() {
    const { text, seconds } = await link.bidi(encoder.encode(element("message").value));
    log(`bidirectional stream: “${text}” came back after ${milliseconds(seconds)}`, "good");
  },
  async sendUni() {
    const { text, seconds } = await link.uni(encoder.encode(element("message").value));
    log(`unidirectional stream: the server answered “${text}” on one of its own after ${milliseconds(seconds)}`, "good");
  },
  async sendDatagram() {
    const { text, ms } = await link.text(element("message").value);
    log(`datagram: “${text}” came back after ${milliseconds(ms / 1000)}`, "good");
  },
  async manyDatagrams() {
    const { sent, echoed, seconds } = await link.burst();
    log(`${number(echoed)} of ${number(sent)} datagrams came back: ${number(Math.round(echoed / seconds))} per second`, "good");
  },
  async bulk() {
    bulkRunning = true; // meanwhile showFigures() shows how it goes
    const { length, seconds } = await link.bidi(new Uint8Array(CHUNK), BULK_BYTES / CHUNK).finally(() => { bulkRunning = false; });
    show("throughput", (length / seconds / 1e6).toFixed(0));
    log(`${bytes(length)} went and came on one stream in ${milliseconds(seconds)}`, "good");
  },
  async manyStreams() {
    const started = performance.now();
    const results = await Promise.all(Array.from({ length: 100 }, (_, index) => link.bidi(encoder.encode(`stream ${index}`))));
    const right = results.filter(({ text }, index) => text === `stream ${index}`).length;
    log(`${right} of 100 streams returned what they were sent, in ${milliseconds((performance.now() - started) / 1000)}`, right === 100 ? "good" : "bad");
  },
  async serverStreams() {
    const other = await secondLink("/push");
    const read = async (streams) => {
      const { value } = await streams.getReader().read();
      const { value: data } = await (value.readable ?? value).getReader().read();
      link.counts.server++;
      return decoder.decode(data);
    };
    const [bidi, uni] = await Promise.all([read(other.incomingBidirectionalStreams), read(other.incomingUnidirectionalStreams)]);
    log(`a second session: the server opened a bidirectional stream (“${bidi}”) and a unidirectional one (“${uni}”)`, "good");
    other.close();
  },
  async serverClose() {
    const { closeCode, reason } = await (await secondLink("/close")).closed;
    log(`a second session: the server closed it with code ${closeCode} and the reason “${reason}”`, "good");
  },
};

async function secondLink(path) {
  const hash = { algorithm: "sha-256", value: hashBytes() };
  const transport = new WebTransport(address(path), { serverCertificateHashes: [hash] });
  await transport.ready;
  return transport;
}

/** The server's counters after a failed attempt; it may count the failure a moment after this browser reports it. */
async function statusAfter(before) {
  const counts = (status) => JSON.stringify([status.server.connections_accepted, status.server.connections_rejected,
    status.server.connection_errors]);
  for (let attempt = 0; ; attempt++) {
    const after = await getJson("status.json").catch(() => null);
    if (!after || counts(after) !== counts(before) || attempt === 10) return after;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function connect() {
  setState("connecting", "connecting …");
  element("trouble").hidden = true;
  const missing = missingFeature();
  if (missing) return fail(...missing, "");
  let before;
  try {
    config = await getJson("config.json"); // fresh: the server may have been restarted
    before = await getJson("status.json");
  } catch (error) {
    return fail("The server is gone", "The web server of this page does not answer: start “python -m pywebtransport serve” again.", String(error));
  }
  showCertificate();
  const started = performance.now();
  let attempt;
  try {
    attempt = new Link(address("/echo"), hashBytes());
    await attempt.ready();
  } catch (error) {
    const after = await statusAfter(before);
    attempt?.transport.close();
    return fail(...explainFailure(error, config, before, after), `The browser says: ${error.name}: ${error.message}`);
  }
  link = attempt;
  setState("connected", "connected");
  log(`connected to ${address("/echo")} in ${milliseconds((performance.now() - started) / 1000)}`, "good");
  attempt.closed().then(({ closeCode, reason, error }) => {
    if (link !== attempt) return;
    link = null;
    setState(error ? "failed" : "idle", error ? "connection lost" : "closed");
    log(error ? `the connection was lost: ${error.message}` : `closed with code ${closeCode}${reason ? `, reason “${reason}”` : ""}`, error ? "bad" : "");
  });
}

function disconnect() {
  link.close(0, "the visitor left");
}

function fail(title, text, detail) {
  show("trouble-title", title);
  show("trouble-text", text);
  show("trouble-detail", detail);
  element("trouble").hidden = false;
  setState("failed", "not connected");
  log(`could not connect: ${title.toLowerCase()}`, "bad");
}

function setState(state, text) {
  element("state").dataset.state = state;
  show("state", text);
  element("connect").textContent = state === "connected" ? "Disconnect" : state === "failed" ? "Try again" : "Connect";
  element("connect").disabled = state === "connecting";
  for (const button of buttons) button.disabled = state !== "connected";
}

function address(path) {
  const host = config.host ?? location.hostname;
  return `https://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${config.port}${path}`;
}

function hashBytes() {
  return new Uint8Array(config.sha256.match(/../g).map((pair) => parseInt(pair, 16)));
}

function showCertificate() {
  show("version", config.version);
  show("hash", config.sha256.match(/../g).join(":"));
  show("expires", `valid until ${new Date(config.expires_at * 1000).toLocaleString()}`);
}

function log(text, kind = "") {
  const line = document.createElement("li");
  line.className = kind;
  const time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString("en-GB");
  const body = document.createElement("span");
  body.textContent = text;
  line.append(time, body);
  element("log").prepend(line);
  while (element("log").children.length > 100) element("log").lastChild.remove();
}

const number = (value) => value.toLocaleString("en");
const milliseconds = (seconds) => (seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`);
const bytes = (value) => (value < 1000 ? `${value} B` : value < 1e6 ? `${(value / 1e3).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`);

let previous = { time: performance.now(), received: 0, bytes: 0 };
function showFigures() {
  if (!link) return;
  const { counts, roundTrips } = link;
  const now = performance.now();
  const seconds = (now - previous.time) / 1000;
  const megabytes = Math.max(0, counts.bytesReceived - previous.bytes) / seconds / 1e6;
  show("datagram-rate", number(Math.max(0, Math.round((counts.received - previous.received) / seconds))));
  if (bulkRunning) show("throughput", megabytes.toFixed(0));
  previous = { time: now, received: counts.received, bytes: counts.bytesReceived };
  show("datagrams-sent", number(counts.sent));
  show("datagrams-received", number(counts.received));
  show("datagrams-lost", number(counts.lost));
  show("bytes-sent", bytes(counts.bytesSent));
  show("bytes-received", bytes(counts.bytesReceived));
  show("streams", number(counts.bidi + counts.uni + counts.server));
  show("streams-bidi", number(counts.bidi));
  show("streams-uni", number(counts.uni));
  show("streams-server", number(counts.server));
  if (roundTrips.length) {
    const sorted = roundTrips.slice(-15).sort((a, b) => a - b);
    show("rtt", sorted[sorted.length >> 1].toFixed(1));
    const top = Math.max(...roundTrips) * 1.1;
    const points = roundTrips.map((value, index) => `${index * 2},${(38 - (value / top) * 34).toFixed(1)}`);
    document.querySelector("#rtt-line polyline").setAttribute("points", points.join(" "));
  }
}

async function showServer() {
  const status = await getJson("status.json").catch(() => null);
  if (!status) return show("server-connections", "the server does not answer");
  const ended = status.sessions.filter((session) => session.closed_at !== null);
  show("server-connections", number(status.server.connections_accepted));
  show("server-sessions", number(status.sessions.length - ended.length));
  ended.sort((a, b) => a.closed_at - b.closed_at);
  const last = ended.at(-1);
  show("server-last", last ? `${last.path}, code ${last.code ?? "none"}${last.reason ? `, “${last.reason}”` : ""}` : "none yet");
}

// Firefox keeps the session of a page that was left, and tells the server nothing.
addEventListener("pagehide", () => link?.close(0, "the page was left"));
element("connect").addEventListener("click", () => (link ? disconnect() : connect()));
element("message").addEventListener("keydown", (event) => { if (event.key === "Enter" && link) actions.sendBidi(); });
for (const button of buttons) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await actions[button.dataset.action]();
    } catch (error) {
      log(`${button.textContent}: ${error.message}`, "bad");
    } finally {
      button.disabled = !link;
    }
  });
}
setInterval(showFigures, 500);
setInterval(showServer, 2000);
setState("idle", "not connected");
connect().then(showServer);
