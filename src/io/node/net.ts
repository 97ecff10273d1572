import type {
  DatagramHandler,
  DatagramSocket,
  FrameConnection,
  FrameHandlers,
  Listener,
  Net,
  StreamConnection,
  StreamHandlers,
} from '../net.ts';
import { listenDatagrams } from './datagrams.ts';
import { dialFrames, listenFrames } from './frames.ts';
import { dialStream, listenStream } from './streams.ts';

/** TCP for streams, WebSocket for frames, UDP for datagrams. */
export class NodeNet implements Net {
  listenDatagrams(host: string, port: number, onDatagram: DatagramHandler): Promise<DatagramSocket> {
    return listenDatagrams(host, port, onDatagram);
  }

  listenStream(host: string, port: number, accept: (connection: StreamConnection) => StreamHandlers): Promise<Listener> {
    return listenStream(host, port, accept);
  }

  dialStream(host: string, port: number, handlers: StreamHandlers): StreamConnection {
    return dialStream(host, port, handlers);
  }

  listenFrames(
    host: string,
    port: number,
    maxFrameBytes: number,
    accept: (connection: FrameConnection) => FrameHandlers,
  ): Promise<Listener> {
    return listenFrames(host, port, maxFrameBytes, accept);
  }

  dialFrames(url: string, maxFrameBytes: number, handlers: FrameHandlers): FrameConnection {
    return dialFrames(url, maxFrameBytes, handlers);
  }
}
