import type { FrameConnection, FrameHandlers, Net } from '../../src/io/net.ts';
import { nodeIo } from '../../src/io/node/io.ts';
import { ERRORS, type ErrorCode } from '../../src/protocol/errors.ts';
import { decodeRequest, type Request } from '../../src/protocol/frame.ts';
import { Op, type SendRequest } from '../../src/protocol/requests.ts';
import { SendAckWriter } from '../../src/protocol/send-acks.ts';

export interface SentFrame {
  readonly requestId: number;
  readonly body: SendRequest;
  readonly raw: Uint8Array;
  readonly atMs: number;
  readonly url: string;
}

/** What becomes of a send's frame: refused without reaching the broker, or its connection lost once the broker has it. */
export type Fate = ErrorCode | 'loseAnswer' | null;

/** The client's world with a tap on the wire: sees frames, refuses sends, loses answers. */
export class TappedIo {
  readonly sent: SentFrame[] = [];
  readonly received: Uint8Array[] = [];
  fate: (frame: SentFrame) => Fate = () => null;
  readonly #real = nodeIo();
  readonly clock = this.#real.clock;
  readonly random = this.#real.random;
  readonly net: Net = {
    listenDatagrams: (...args) => this.#real.net.listenDatagrams(...args),
    listenStream: (...args) => this.#real.net.listenStream(...args),
    dialStream: (...args) => this.#real.net.dialStream(...args),
    listenFrames: (...args) => this.#real.net.listenFrames(...args),
    dialFrames: (url, maxFrameBytes, handlers) => this.#dial(url, maxFrameBytes, handlers),
  };

  #dial(url: string, maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
    let losing = false;
    const inner = this.#real.net.dialFrames(url, maxFrameBytes, {
      onOpen: () => handlers.onOpen?.(outer),
      onFrame: (_connection, frame) => {
        // The first word after the send was stored: the answer is lost with its connection.
        if (losing) {
          inner.destroy();
          return;
        }
        this.received.push(frame.slice());
        handlers.onFrame(outer, frame);
      },
      onClose: () => handlers.onClose(outer),
    });
    const outer: FrameConnection = {
      get remoteAddress() {
        return inner.remoteAddress;
      },
      get bufferedBytes() {
        return inner.bufferedBytes;
      },
      send: (frame, onFlushed) => {
        const request = decodeRequest(frame) as Request;
        if (request.op === Op.send) {
          const { requestId, body } = request;
          const sent = { requestId, body, raw: request.raw.slice(), atMs: performance.now(), url };
          this.sent.push(sent);
          const fate = this.fate(sent);
          if (fate === 'loseAnswer') losing = true;
          else if (fate !== null) {
            const acks = new SendAckWriter();
            acks.addParts(
              requestId,
              body.parts.flatMap(() => [ERRORS[fate].number, -1, 0]),
            );
            const answer = acks.take();
            setImmediate(() => handlers.onFrame(outer, answer));
            onFlushed?.();
            return;
          }
        }
        inner.send(frame, onFlushed);
      },
      pause: () => inner.pause(),
      resume: () => inner.resume(),
      close: () => inner.close(),
      destroy: () => inner.destroy(),
    };
    return outer;
  }
}
