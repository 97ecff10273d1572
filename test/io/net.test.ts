import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { FrameConnection, Listener, StreamConnection } from '../../src/io/net.ts';
import { NodeNet } from '../../src/io/node/net.ts';

const HOST = '127.0.0.1';
const net = new NodeNet();
const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});
function track<T extends { close(): unknown }>(thing: T): T {
  open.push(thing);
  return thing;
}

interface Latch<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
}
function latch<T>(): Latch<T> {
  return Promise.withResolvers<T>();
}

/** A port on which nobody listens. */
async function freePort(): Promise<number> {
  const listener = await net.listenStream(HOST, 0, () => ({ onData: () => {}, onClose: () => {} }));
  await listener.close();
  return listener.port;
}

describe('streams', () => {
  test('bytes flow both ways, onFlushed comes, a listener on port 0 tells its port', async () => {
    const echoed = latch<string>();
    const flushed = latch<void>();
    const listener = track(
      await net.listenStream(HOST, 0, () => ({
        onData: (connection, bytes) => connection.write(Uint8Array.from(bytes)),
        onClose: () => {},
      })),
    );
    expect(listener.port).toBeGreaterThan(0);
    const connection = net.dialStream(HOST, listener.port, {
      onOpen: (opened) => opened.write(Buffer.from('hello'), flushed.resolve),
      onData: (_, bytes) => echoed.resolve(Buffer.from(bytes).toString()),
      onClose: () => {},
    });
    await flushed.promise;
    expect(await echoed.promise).toBe('hello');
    connection.destroy();
  });

  test('many bytes arrive as they were, in both directions at once', async () => {
    const total = 5_000_000;
    const byteAt = (at: number): number => (at * 31 + (at >>> 8)) & 0xff;
    const checker = (done: (wrong: number) => void) => {
      let at = 0;
      let wrong = 0;
      return (_: StreamConnection, bytes: Uint8Array): void => {
        for (const byte of bytes) if (byte !== byteAt(at++)) wrong += 1;
        if (at === total) done(wrong);
      };
    };
    const sent = Uint8Array.from({ length: total }, (_, at) => byteAt(at));
    const atServer = latch<number>();
    const atDialer = latch<number>();
    const listener = track(
      await net.listenStream(HOST, 0, () => ({
        onOpen: (connection) => connection.write(sent),
        onData: checker(atServer.resolve),
        onClose: () => {},
      })),
    );
    const connection = net.dialStream(HOST, listener.port, {
      onOpen: (opened) => {
        for (let at = 0; at < total; at += 100_000) opened.write(sent.subarray(at, at + 100_000));
      },
      onData: checker(atDialer.resolve),
      onClose: () => {},
    });
    expect(await Promise.all([atServer.promise, atDialer.promise])).toEqual([0, 0]);
    connection.destroy();
  });

  test('a refused dial is evidence', async () => {
    const closed = latch<boolean>();
    net.dialStream(HOST, await freePort(), { onData: () => {}, onClose: (_, reset) => closed.resolve(reset) });
    expect(await closed.promise).toBe(true);
  });

  test('the other end’s FIN and RST are evidence, our own destroy is not', async () => {
    const accepted: Socket[] = [];
    const server: Server = createServer((socket) => accepted.push(socket));
    track({ close: () => server.close() });
    server.listen(0, HOST);
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const dial = async (end: (socket: Socket, own: StreamConnection) => void): Promise<boolean> => {
      const closed = latch<boolean>();
      const opened = latch<void>();
      const arrived = once(server, 'connection');
      const own = net.dialStream(HOST, port, {
        onOpen: () => opened.resolve(),
        onData: () => {},
        onClose: (_, reset) => closed.resolve(reset),
      });
      await Promise.all([opened.promise, arrived]);
      end(accepted.at(-1) as Socket, own);
      return closed.promise;
    };
    expect(await dial((socket) => socket.end())).toBe(true);
    expect(await dial((socket) => socket.resetAndDestroy())).toBe(true);
    expect(await dial((_, own) => own.destroy())).toBe(false);
    for (const socket of accepted) socket.destroy();
  });

  test('after destroy nothing is delivered but onClose, once', async () => {
    const listener = track(
      await net.listenStream(HOST, 0, () => ({
        onOpen: (connection) => connection.write(new Uint8Array(1_000_000)),
        onData: () => {},
        onClose: () => {},
      })),
    );
    let after = 0;
    let closes = 0;
    const closed = latch<void>();
    net.dialStream(HOST, listener.port, {
      onData: (connection) => {
        after += 1;
        connection.destroy();
        connection.write(Uint8Array.of(1), () => {
          after += 1;
        });
      },
      onClose: () => {
        closes += 1;
        closed.resolve();
      },
    });
    await closed.promise;
    expect([after, closes]).toEqual([1, 1]);
  });

  test('closing a listener destroys what it accepted', async () => {
    const listener: Listener = await net.listenStream(HOST, 0, () => ({ onData: () => {}, onClose: () => {} }));
    const opened = latch<void>();
    const closed = latch<boolean>();
    net.dialStream(HOST, listener.port, { onOpen: () => opened.resolve(), onData: () => {}, onClose: (_, reset) => closed.resolve(reset) });
    await opened.promise;
    await listener.close();
    expect(await closed.promise).toBe(true);
  });

  test('an address that is taken rejects', async () => {
    const listener = track(await net.listenStream(HOST, 0, () => ({ onData: () => {}, onClose: () => {} })));
    await expect(net.listenStream(HOST, listener.port, () => ({ onData: () => {}, onClose: () => {} }))).rejects.toThrow(/EADDRINUSE/);
  });
});

describe('frames', () => {
  const MAX = 1024 * 1024;
  const sizes = [0, 1, 125, 126, 65_535, 65_536, MAX];

  test('frames of all sizes come back whole, in order', async () => {
    const listener = track(
      await net.listenFrames(HOST, 0, MAX, () => ({ onFrame: (connection, frame) => connection.send(frame), onClose: () => {} })),
    );
    const received: number[] = [];
    let wrong = 0;
    let flushes = 0;
    const done = latch<void>();
    const connection = net.dialFrames(`ws://${HOST}:${listener.port}`, MAX, {
      onOpen: (opened) => {
        for (const size of sizes) {
          opened.send(new Uint8Array(size).fill(size), () => {
            flushes += 1;
          });
        }
      },
      onFrame: (_, frame) => {
        if (frame.some((byte) => byte !== (frame.length & 0xff))) wrong += 1;
        received.push(frame.length);
        if (received.length === sizes.length) done.resolve();
      },
      onClose: () => {},
    });
    await done.promise;
    expect(received).toEqual(sizes);
    expect([wrong, flushes]).toEqual([0, sizes.length]);
    connection.destroy();
  });

  test('a frame beyond the bound closes the connection, on both sides', async () => {
    const serverClosed = latch<void>();
    let frames = 0;
    const listener = track(
      await net.listenFrames(HOST, 0, 100, () => ({
        onFrame: () => {
          frames += 1;
        },
        onClose: () => serverClosed.resolve(),
      })),
    );
    const closed = latch<void>();
    net.dialFrames(`ws://${HOST}:${listener.port}`, 100, {
      onOpen: (connection) => connection.send(new Uint8Array(101)),
      onFrame: () => {},
      onClose: () => closed.resolve(),
    });
    await Promise.all([closed.promise, serverClosed.promise]);
    expect(frames).toBe(0);
  });

  test('a paused connection receives nothing until it is resumed', async () => {
    const server = latch<FrameConnection>();
    const got: number[] = [];
    const all = latch<void>();
    const listener = track(
      await net.listenFrames(HOST, 0, MAX, () => ({
        onOpen: (connection) => {
          connection.pause();
          server.resolve(connection);
        },
        onFrame: (_, frame) => {
          got.push(frame[0] as number);
          if (got.length === 3) all.resolve();
        },
        onClose: () => {},
      })),
    );
    const sent = latch<void>();
    const client = net.dialFrames(`ws://${HOST}:${listener.port}`, MAX, {
      onOpen: (connection) => {
        connection.send(Uint8Array.of(1));
        connection.send(Uint8Array.of(2));
        connection.send(Uint8Array.of(3), () => sent.resolve());
      },
      onFrame: () => {},
      onClose: () => {},
    });
    const paused = await server.promise;
    await sent.promise;
    await new Promise((resolve) => setImmediate(resolve));
    expect(got).toEqual([]);
    paused.resume();
    await all.promise;
    expect(got).toEqual([1, 2, 3]);
    client.destroy();
  });

  test('close() delivers what was sent before it; a text frame and a refused or senseless dial end in onClose', async () => {
    const listener = track(
      await net.listenFrames(HOST, 0, MAX, () => ({
        onOpen: (connection) => {
          connection.send(Uint8Array.of(7));
          connection.close();
        },
        onFrame: () => {},
        onClose: () => {},
      })),
    );
    const got: number[] = [];
    const closed = latch<void>();
    net.dialFrames(`ws://${HOST}:${listener.port}`, MAX, {
      onFrame: (_, frame) => got.push(frame[0] as number),
      onClose: () => closed.resolve(),
    });
    await closed.promise;
    expect(got).toEqual([7]);

    for (const url of [`ws://${HOST}:${await freePort()}`, 'no url at all']) {
      const refused = latch<void>();
      net.dialFrames(url, MAX, { onFrame: () => {}, onClose: () => refused.resolve() });
      await refused.promise;
    }

    let frames = 0;
    const textClosed = latch<void>();
    const other = track(
      await net.listenFrames(HOST, 0, MAX, () => ({
        onFrame: () => {
          frames += 1;
        },
        onClose: () => textClosed.resolve(),
      })),
    );
    const ws = new WebSocket(`ws://${HOST}:${other.port}`);
    ws.on('error', () => {});
    ws.on('open', () => ws.send('text'));
    await textClosed.promise;
    expect(frames).toBe(0);
  });
});
