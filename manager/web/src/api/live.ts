import type { LiveMessage } from "./types";

export type Link =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "lost"; since: number; retryAt: number };

interface Listener {
  message(message: LiveMessage): void;
  link(link: Link): void;
  sessionOver(): void;
}

const sessionOverCode = 4401;
const firstWait = 500;
const longestWait = 15_000;
/** A point comes every 5 s: a connection that is silent for so long is dead, whatever TCP says. */
const longestSilence = 16_000;

/** The WebSocket, and its successors. */
export class Live {
  private socket: WebSocket | null = null;
  private timer = 0;
  private watchdog = 0;
  private tries = 0;
  private lostSince: number | null = null;

  constructor(private readonly listener: Listener) {}

  open(): void {
    this.close();
    this.tries = 0;
    this.lostSince = null;
    this.listener.link({ state: "connecting" });
    this.connect();
  }

  close(): void {
    window.clearTimeout(this.timer);
    window.clearTimeout(this.watchdog);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  /** Does not wait for the next try. */
  retry(): void {
    if (this.lostSince === null) return;
    window.clearTimeout(this.timer);
    this.connect();
  }

  private connect(): void {
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/v1/live`);
    this.socket = socket;
    this.watch(socket);
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.watch(socket);
      const message = JSON.parse(String(event.data)) as LiveMessage;
      if (this.lostSince !== null || this.tries === 0) this.listener.link({ state: "live" });
      this.lostSince = null;
      this.tries = 1;
      this.listener.message(message);
    };
    socket.onclose = (event) => {
      if (socket === this.socket) this.lost(event.code);
    };
  }

  private watch(socket: WebSocket): void {
    window.clearTimeout(this.watchdog);
    this.watchdog = window.setTimeout(() => {
      if (socket !== this.socket) return;
      this.socket = null;
      socket.close();
      this.lost(0);
    }, longestSilence);
  }

  private lost(code: number): void {
    window.clearTimeout(this.watchdog);
    this.socket = null;
    if (code === sessionOverCode) {
      this.listener.sessionOver();
      return;
    }
    // Pages that lost their server together must not come back together.
    const wait = Math.min(longestWait, firstWait * 2 ** Math.min(this.tries, 8)) * (0.75 + Math.random() / 2);
    this.tries += 1;
    const now = Date.now();
    this.lostSince ??= now;
    this.listener.link({ state: "lost", since: this.lostSince, retryAt: now + wait });
    this.timer = window.setTimeout(() => this.connect(), wait);
  }
}
