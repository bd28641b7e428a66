// The page's half of tests/browser/scenarios.py: one function per step, arguments and results are JSON.
// Sessions stay open between the calls of one scenario; they are named by a number.
(() => {
  const sessions = [];
  const encode = (text) => new TextEncoder().encode(text);
  const unhex = (text) => new Uint8Array(text.match(/../g).map((pair) => parseInt(pair, 16)));

  async function readAll(readable) {
    const parts = [];
    const reader = readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      parts.push(value);
    }
    return new Uint8Array(await new Blob(parts).arrayBuffer());
  }

  async function readText(readable) {
    return new TextDecoder().decode(await readAll(readable));
  }

  async function writeAndClose(writable, body) {
    const writer = writable.getWriter();
    writer.write(body).catch(() => {}); // close() fails as well, and is awaited
    await writer.close();
  }

  async function next(streams) {
    const reader = streams.getReader();
    const { value, done } = await reader.read();
    reader.releaseLock();
    if (done) throw new Error("no more streams");
    return value;
  }

  // createWritable() is the newer shape, writable the older one.
  const datagramWriter = ({ datagrams }) => (datagrams.createWritable ? datagrams.createWritable() : datagrams.writable).getWriter();

  // Firefox and Chromium name errors alike, but not the words in them.
  const describe = (error) => ({ name: error.name, source: error.source ?? null, code: error.streamErrorCode ?? null });

  // The message was a member of the dictionary once, and is the first argument now.
  function streamError(code) {
    try {
      return new WebTransportError("reset by the page", { source: "stream", streamErrorCode: code });
    } catch {
      return new WebTransportError({ message: "reset by the page", streamErrorCode: code });
    }
  }

  // A pattern in which every offset differs from its neighbours, so that a lost or swapped piece shows.
  function pattern(length) {
    const body = new Uint8Array(length);
    for (let index = 0; index < length; index++) body[index] = (index * 31 + (index >> 8) * 7) & 255;
    return body;
  }

  return {
    /** Open a session; its number, or the error. */
    async open(url, sha256) {
      const transport = new WebTransport(url, { serverCertificateHashes: [{ algorithm: "sha-256", value: unhex(sha256) }] });
      transport.closed.catch(() => {});
      try {
        await transport.ready;
      } catch (error) {
        return { error: describe(error) };
      }
      return { session: sessions.push(transport) - 1 };
    },

    async closed(session) {
      try {
        const { closeCode, reason } = await sessions[session].closed;
        return { code: closeCode, reason };
      } catch (error) {
        return { error: describe(error) };
      }
    },

    async close(session, code, reason) {
      sessions[session].close({ closeCode: code, reason });
      return true;
    },

    async echoBidi(session, text) {
      const stream = await sessions[session].createBidirectionalStream();
      const [answer] = await Promise.all([readText(stream.readable), writeAndClose(stream.writable, encode(text))]);
      return answer;
    },

    /** `length` bytes there and back on one stream: how many came back, and whether they are the same. */
    async echoBulk(session, length) {
      const stream = await sessions[session].createBidirectionalStream();
      const body = pattern(length);
      const [answer] = await Promise.all([readAll(stream.readable), writeAndClose(stream.writable, body)]);
      return { length: answer.length, same: answer.every((value, index) => value === body[index]) };
    },

    async echoUni(session, text) {
      const transport = sessions[session];
      await writeAndClose(await transport.createUnidirectionalStream(), encode(text));
      return readText(await next(transport.incomingUnidirectionalStreams));
    },

    /** `count` streams of each kind at once; the texts that came back, sorted. */
    async manyStreams(session, count) {
      const transport = sessions[session];
      const bidi = Array.from({ length: count }, async (_, index) => {
        const stream = await transport.createBidirectionalStream();
        const [answer] = await Promise.all([readText(stream.readable), writeAndClose(stream.writable, encode(`b${index}`))]);
        return answer;
      });
      const sends = Array.from({ length: count }, async (_, index) => {
        await writeAndClose(await transport.createUnidirectionalStream(), encode(`u${index}`));
      });
      const answers = [];
      const reader = transport.incomingUnidirectionalStreams.getReader();
      while (answers.length < count) {
        const { value, done } = await reader.read();
        if (done) throw new Error(`the session ended after ${answers.length} answers`);
        answers.push(readText(value));
      }
      reader.releaseLock();
      await Promise.all(sends);
      return (await Promise.all([...bidi, ...answers])).sort();
    },

    /** Send `count` numbered datagrams, one after the other came back; how many did within a second each. */
    async datagrams(session, count) {
      const transport = sessions[session];
      const writer = datagramWriter(transport);
      const reader = transport.datagrams.readable.getReader();
      let returned = 0;
      for (let index = 0; index < count; index++) {
        await writer.write(encode(`datagram ${index}`));
        const late = new Promise((resolve) => setTimeout(resolve, 1000, { late: true }));
        const { value, late: lost } = await Promise.race([reader.read(), late]);
        if (!lost && new TextDecoder().decode(value) === `datagram ${index}`) returned++;
      }
      writer.releaseLock();
      return returned;
    },

    /** The streams that the server opens: what it says on each, and the echo of an answer. */
    async takePushed(session, answer) {
      const transport = sessions[session];
      const [bidi, uni] = await Promise.all([
        next(transport.incomingBidirectionalStreams),
        next(transport.incomingUnidirectionalStreams),
      ]);
      const [onBidi, onUni] = await Promise.all([
        readText(bidi.readable), readText(uni), writeAndClose(bidi.writable, encode(answer)),
      ]);
      return { onBidi, onUni };
    },

    /** Write on a stream and reset it with a code. */
    async resetWith(session, code) {
      const stream = await sessions[session].createBidirectionalStream();
      const writer = stream.writable.getWriter();
      await writer.write(encode("soon reset"));
      await stream.readable.getReader().read(); // the server has it
      await writer.abort(streamError(code)).catch(() => {});
      return true;
    },

    /** Write on a bidirectional stream that the server aborts: the reader's error. */
    async takeReset(session) {
      const stream = await sessions[session].createBidirectionalStream();
      await stream.writable.getWriter().write(encode("please reset"));
      return stream.readable.getReader().read().then(() => null, describe);
    },

    /** Write on a unidirectional stream that the server aborts: the writer's error. */
    async takeStop(session) {
      const writer = (await sessions[session].createUnidirectionalStream()).getWriter();
      await writer.write(encode("please stop"));
      return writer.closed.then(() => null, describe);
    },

    /** Keep writing without an end: for a reload in mid-traffic. */
    async startTraffic(session, streams) {
      const transport = sessions[session];
      for (let index = 0; index < streams; index++) {
        const stream = await transport.createBidirectionalStream();
        const writer = stream.writable.getWriter();
        const reader = stream.readable.getReader();
        (async () => { for (;;) { await writer.ready; await writer.write(pattern(1024)); } })().catch(() => {});
        (async () => { while (!(await reader.read()).done); })().catch(() => {});
      }
      const writer = datagramWriter(transport);
      const sending = setInterval(() => writer.write(encode("traffic")).catch(() => clearInterval(sending)), 5);
      return true;
    },
  };
})()
