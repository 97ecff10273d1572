import { type ClientIo, Link, type LinkEvents, type LinkOptions } from './link.ts';

/** One link for each broker address that the client knows. Bounded by the cluster's size: addresses come from routes only. */
export class Connections {
  readonly #io: ClientIo;
  readonly #options: LinkOptions;
  readonly #events: LinkEvents;
  readonly #links = new Map<string, Link>();
  #closed = false;

  constructor(io: ClientIo, options: LinkOptions, events: LinkEvents) {
    this.#io = io;
    this.#options = options;
    this.#events = events;
  }

  /** The link to an address, dialled if it was not. */
  to(endpoint: string): Link {
    let link = this.#links.get(endpoint);
    if (link === undefined) {
      link = new Link(endpoint, this.#io, this.#options, this.#events);
      // Somebody who has not heard of the end yet gets a link that never dials: a new connection would outlive the client.
      if (this.#closed) link.close();
      else this.#links.set(endpoint, link);
    }
    link.connect();
    return link;
  }

  get all(): Iterable<Link> {
    return this.#links.values();
  }

  /** Forgets addresses that no route names any more. */
  retain(endpoints: ReadonlySet<string>): void {
    for (const [endpoint, link] of this.#links) {
      if (endpoints.has(endpoint)) continue;
      this.#links.delete(endpoint);
      link.close();
    }
  }

  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
  }
}
