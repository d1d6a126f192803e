import { createContext, useContext } from "react";
import { Api, type OrderRequest } from "../api/client";
import { type Link, Live } from "../api/live";
import type { History, Order, Role, Session } from "../api/types";
import { type Known, nothingKnown, reduce, withHistory, withOrder } from "./reduce";
import { heardClock } from "./now";
import { Store, useSelect } from "./store";

interface State {
  session: Session | null;
  /** Why there is no session yet. */
  sessionError: string | null;
  /** An anonymous viewer has asked for the login form. */
  wantsLogin: boolean;
  link: Link;
  known: Known;
  console: { open: boolean; order: number | null };
  /** The order that is about to be given, in a dialog. */
  asked: OrderRequest | null;
}

/** The state of the page and what changes it. */
export class Manager {
  readonly store = new Store<State>({
    session: null,
    sessionError: null,
    wantsLogin: false,
    link: { state: "connecting" },
    known: nothingKnown,
    console: { open: false, order: null },
    asked: null,
  });
  readonly api = new Api(() => void this.begin());
  private readonly live = new Live({
    message: (message) => {
      if (message.herd) heardClock(message.herd.at);
      this.change((s) => ({ ...s, known: reduce(s.known, message, Date.now()) }));
    },
    link: (link) => this.linked(link),
    sessionOver: () => void this.begin(),
  });
  private begun = 0;

  /** Asks who we are; the rest follows from that. */
  async begin(): Promise<void> {
    const turn = ++this.begun;
    try {
      const session = await this.api.session();
      if (turn === this.begun) this.entered(session);
    } catch (error) {
      if (turn !== this.begun) return;
      this.change((s) => ({ ...s, sessionError: (error as Error).message }));
      window.setTimeout(() => turn === this.begun && void this.begin(), 3000);
    }
  }

  async login(user: string, password: string): Promise<void> {
    this.entered(await this.api.login(user, password));
  }

  async logout(): Promise<void> {
    await this.api.logout();
    await this.begin();
  }

  askLogin(wantsLogin: boolean): void {
    this.change((s) => ({ ...s, wantsLogin }));
  }

  retry(): void {
    this.live.retry();
  }

  /** Opens the dialog of an order, or closes it. */
  ask(asked: OrderRequest | null): void {
    this.change((s) => ({ ...s, asked }));
  }

  took(order: Order): void {
    this.change((s) => ({
      ...s,
      known: { ...s.known, orders: withOrder(s.known.orders, order) },
      console: { open: true, order: order.id },
      asked: null,
    }));
  }

  learned(orders: Order[]): void {
    this.change((s) => ({ ...s, known: { ...s.known, orders: orders.reduce(withOrder, s.known.orders) } }));
  }

  showConsole(open: boolean, order?: number | null): void {
    this.change((s) => ({ ...s, console: { open, order: order === undefined ? s.console.order : order } }));
  }

  private entered(session: Session): void {
    const before = this.store.get().session;
    const maySee = roleOf(session) !== null;
    const someoneElse = before !== null && before.user !== session.user;
    this.change((s) => ({
      ...s,
      session,
      sessionError: null,
      wantsLogin: false,
      // What an operator was shown is not left to who comes after.
      known: maySee && !someoneElse ? s.known : nothingKnown,
      console: maySee && !someoneElse ? s.console : { open: false, order: null },
      asked: null,
    }));
    if (maySee) this.live.open();
    else this.live.close();
  }

  private linked(link: Link): void {
    const was = this.store.get().link.state;
    this.change((s) => ({ ...s, link }));
    if (link.state === "live" && was !== "live") void this.catchUp();
    if (link.state === "lost") void this.recheck();
  }

  /** A browser is not told why a WebSocket was refused: perhaps the session is over. */
  private async recheck(): Promise<void> {
    const turn = this.begun;
    const session = await this.api.session().catch(() => null);
    const before = this.store.get().session;
    if (!session || turn !== this.begun) return;
    if (session.user !== before?.user || session.role !== before?.role) this.entered(session);
  }

  /** What is pushed only when it changes, or a piece at a time, was missed while there was no connection. */
  private async catchUp(): Promise<void> {
    const [history, orders] = await Promise.allSettled([
      this.api.get<History>("history"),
      this.api.get<Order[]>("orders"),
    ]);
    if (history.status === "fulfilled") {
      const { points } = history.value;
      this.change((s) => ({ ...s, known: { ...s.known, points: withHistory(s.known.points, points) } }));
    }
    if (orders.status === "fulfilled") this.learned(orders.value);
  }

  private change(change: (state: State) => State): void {
    this.store.set(change);
  }
}

export function roleOf(session: Session | null): Role | null {
  return session?.role ?? session?.anonymous ?? null;
}

export const ManagerContext = createContext<Manager | null>(null);

export function useManager(): Manager {
  const manager = useContext(ManagerContext);
  if (!manager) throw new Error("there is no manager around this component");
  return manager;
}

export function useManaged<S>(select: (state: State) => S): S {
  return useSelect(useManager().store, select);
}

/** Null where the user may act, else why not. */
export function useWhyNot(): string | null {
  return useManaged((s) => {
    if (s.session?.role === "operator") return s.link.state === "lost" ? "The connection to pgherd is lost" : null;
    if (s.session?.user) return "Your role is viewer: operators alone may act";
    return "Log in as an operator to act";
  });
}
