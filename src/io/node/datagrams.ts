import { createSocket } from 'node:dgram';
import { lookup } from 'node:dns';
import { isIP } from 'node:net';
import type { DatagramHandler, DatagramSocket } from '../net.ts';
import { MAX_DATAGRAM_BYTES } from '../net.ts';

/** A name is looked up again when its last answer is older; until the new one is there the last one is used. */
const FRESH_MS = 1_000;
/** Names kept; beyond it the one that was used longest ago is forgotten and asked for again. */
const MAX_NAMES = 1_024;
const WILDCARDS: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

interface Name {
  address: string | null;
  askedMs: number;
  asking: boolean;
  /** Sent before the first answer: the newest datagram only. */
  waiting: { readonly bytes: Buffer; readonly port: number } | null;
}

/** UDP. */
export function listenDatagrams(host: string, port: number, onDatagram: DatagramHandler): Promise<DatagramSocket> {
  const family = isIP(host) === 6 ? 6 : 4;
  const socket = createSocket({ type: family === 6 ? 'udp6' : 'udp4' });
  const names = new Map<string, Name>();
  let closed = false;

  const transmit = (bytes: Uint8Array, address: string, toPort: number): void => {
    // An unreachable host or a full socket buffer is a lost datagram.
    socket.send(bytes, toPort, address, () => {});
  };
  const resolve = (name: string, known: Name): void => {
    known.asking = true;
    lookup(name, { family }, (error, address) => {
      known.asking = false;
      known.askedMs = performance.now();
      if (error === null) known.address = address;
      const { waiting } = known;
      known.waiting = null;
      if (!closed && waiting !== null && known.address !== null) transmit(waiting.bytes, known.address, waiting.port);
    });
  };
  const sendToName = (bytes: Uint8Array, name: string, toPort: number): void => {
    const known = names.get(name) ?? { address: null, askedMs: Number.NEGATIVE_INFINITY, asking: false, waiting: null };
    names.delete(name);
    names.set(name, known);
    if (names.size > MAX_NAMES) names.delete(names.keys().next().value as string);
    if (known.address !== null) transmit(Buffer.from(bytes), known.address, toPort);
    else known.waiting = { bytes: Buffer.from(bytes), port: toPort };
    if (!known.asking && performance.now() - known.askedMs >= FRESH_MS) resolve(name, known);
  };

  return new Promise((done, fail) => {
    socket.once('error', fail);
    socket.bind({ address: host, port }, () => {
      socket.off('error', fail);
      // Errors of single datagrams; the socket stays.
      socket.on('error', () => {});
      socket.on('message', (bytes, from) => onDatagram(bytes, from.address, from.port));
      done({
        port: socket.address().port,
        send: (bytes, toHost, toPort) => {
          if (closed || bytes.length > MAX_DATAGRAM_BYTES) return;
          const target = WILDCARDS[toHost] ?? toHost;
          // Node may hand the memory to the system after the call.
          if (isIP(target) !== 0) transmit(Buffer.from(bytes), target, toPort);
          else sendToName(bytes, target, toPort);
        },
        close: () =>
          new Promise((over) => {
            if (closed) over();
            else {
              closed = true;
              socket.close(() => over());
            }
          }),
      });
    });
  });
}
