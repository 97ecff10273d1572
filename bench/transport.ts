/**
 * ws against a raw HTTP upgrade with length-prefixed frames, on the same kind of port: `node bench/transport.ts [seconds]`.
 *
 * A client process keeps N requests of one size in flight, a server process answers each with 40 bytes. Prints one JSON line
 * per size and N: rates of both, and raw over ws. Both share the machine's cores, so the rate is the cost of both ends.
 */
import { fork } from 'node:child_process';
import { createServer, type IncomingMessage, request } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { NodeNet } from '../src/io/node/net.ts';

const SIZES = [100, 1_024, 65_536, 262_144];
const IN_FLIGHT = [64, 1_024];
/** The larger number of large requests would measure the kernel's buffers only. */
const MAX_IN_FLIGHT_BYTES = 16 * 1024 * 1024;
const MAX_FRAME_BYTES = 1024 * 1024;
const ANSWER = new Uint8Array(40);
const HOST = '127.0.0.1';

interface Channel {
  send(frame: Uint8Array): void;
  close(): void;
}
type OnFrame = (channel: Channel, frame: Uint8Array) => void;

/** Frames of [size u32 BE][bytes]: views where a chunk holds the whole frame, else one copy. */
function frameSocket(socket: Socket, onFrame: OnFrame): Channel {
  socket.setNoDelay(true);
  const channel: Channel = {
    send(frame) {
      const prefix = Buffer.allocUnsafe(4);
      prefix.writeUInt32BE(frame.length, 0);
      socket.cork();
      socket.write(prefix);
      socket.write(frame);
      socket.uncork();
    },
    close: () => socket.destroy(),
  };
  const prefix = Buffer.alloc(4);
  let prefixFilled = 0;
  let partial: Buffer | null = null;
  let filled = 0;
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => {
    let at = 0;
    while (at < chunk.length) {
      if (partial === null) {
        while (prefixFilled < 4 && at < chunk.length) prefix[prefixFilled++] = chunk[at++] as number;
        if (prefixFilled < 4) return;
        const size = prefix.readUInt32BE(0);
        if (size > MAX_FRAME_BYTES) throw new Error('frame too large');
        if (at + size <= chunk.length) {
          prefixFilled = 0;
          at += size;
          onFrame(channel, chunk.subarray(at - size, at));
          continue;
        }
        partial = Buffer.allocUnsafeSlow(size);
        filled = 0;
      }
      const count = Math.min(partial.length - filled, chunk.length - at);
      chunk.copy(partial, filled, at, at + count);
      filled += count;
      at += count;
      if (filled === partial.length) {
        const frame = partial;
        partial = null;
        prefixFilled = 0;
        onFrame(channel, frame);
      }
    }
  });
  return channel;
}

/** Child process: both servers; tells its ports. */
async function serve(): Promise<void> {
  const listener = await new NodeNet().listenFrames(HOST, 0, MAX_FRAME_BYTES, () => ({
    onFrame: (connection) => connection.send(ANSWER),
    onClose: () => {},
  }));
  const raw = createServer();
  raw.on('upgrade', (_request: IncomingMessage, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ledgermq\r\n\r\n');
    frameSocket(socket, (channel) => channel.send(ANSWER));
  });
  raw.listen(0, HOST, () => process.send?.({ ws: listener.port, raw: (raw.address() as AddressInfo).port }));
  process.on('disconnect', () => process.exit(0));
}

type Dial = (onOpen: (channel: Channel) => void, onFrame: OnFrame) => void;

function dialWs(port: number): Dial {
  return (onOpen, onFrame) => {
    new NodeNet().dialFrames(`ws://${HOST}:${port}`, MAX_FRAME_BYTES, {
      onOpen: (connection) => onOpen({ send: (frame) => connection.send(frame), close: () => connection.destroy() }),
      onFrame: (connection, frame) => onFrame({ send: (bytes) => connection.send(bytes), close: () => connection.destroy() }, frame),
      onClose: () => {},
    });
  };
}

function dialRaw(port: number): Dial {
  return (onOpen, onFrame) => {
    const upgrade = request({ host: HOST, port, headers: { connection: 'Upgrade', upgrade: 'ledgermq' } });
    upgrade.on('upgrade', (_response, socket) => onOpen(frameSocket(socket as Socket, onFrame)));
    upgrade.end();
  };
}

/** @returns answered requests per second */
function measure(dial: Dial, sizeBytes: number, inFlight: number, seconds: number): Promise<number> {
  return new Promise((resolve) => {
    const frame = Buffer.alloc(sizeBytes, 7);
    let answered = 0;
    let own: Channel | null = null;
    dial(
      (channel) => {
        own = channel;
        for (let i = 0; i < inFlight; i++) channel.send(frame);
        setTimeout(() => {
          const from = answered;
          const startMs = performance.now();
          setTimeout(() => {
            channel.close();
            resolve(((answered - from) * 1000) / (performance.now() - startMs));
          }, seconds * 1000);
        }, seconds * 250);
      },
      () => {
        answered += 1;
        own?.send(frame);
      },
    );
  });
}

async function main(seconds: number): Promise<void> {
  const child = fork(import.meta.filename, ['serve']);
  const ports = await new Promise<{ ws: number; raw: number }>((resolve) => child.once('message', (message) => resolve(message as never)));
  for (const sizeBytes of SIZES) {
    const bound = Math.floor(MAX_IN_FLIGHT_BYTES / sizeBytes);
    for (const inFlight of new Set(IN_FLIGHT.map((wanted) => Math.min(wanted, bound)))) {
      const ws = await measure(dialWs(ports.ws), sizeBytes, inFlight, seconds);
      const raw = await measure(dialRaw(ports.raw), sizeBytes, inFlight, seconds);
      console.log(
        JSON.stringify({
          sizeBytes,
          inFlight,
          wsPerS: Math.round(ws),
          rawPerS: Math.round(raw),
          wsMbPerS: Math.round((ws * sizeBytes) / 1e6),
          rawOverWs: Number((raw / ws).toFixed(2)),
        }),
      );
    }
  }
  child.disconnect();
}

if (process.argv[2] === 'serve') await serve();
else await main(Number(process.argv[2] ?? 0.8));
