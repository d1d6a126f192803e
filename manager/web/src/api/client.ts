import type { DryRun, Order, Session } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

export interface OrderRequest {
  action: string;
  confirm?: string;
  [field: string]: unknown;
}

export class Api {
  private csrf: string | null = null;

  /** `unauthorized` is told when the server says that the session is over. */
  constructor(private readonly unauthorized: () => void) {}

  async session(): Promise<Session> {
    return this.keep(await this.ask<Session>("GET", "session"));
  }

  async login(user: string, password: string): Promise<Session> {
    return this.keep(await this.ask<Session>("POST", "session", { user, password }));
  }

  async logout(): Promise<void> {
    await this.ask<void>("DELETE", "session");
  }

  get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return this.ask<T>("GET", path, undefined, signal);
  }

  dryRun(order: OrderRequest, signal?: AbortSignal): Promise<DryRun> {
    return this.ask<DryRun>("POST", "orders", { ...order, dry_run: true }, signal);
  }

  order(order: OrderRequest): Promise<Order> {
    return this.ask<Order>("POST", "orders", { ...order, dry_run: false });
  }

  private keep(session: Session): Session {
    this.csrf = session.csrf;
    return session;
  }

  private async ask<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (method !== "GET" && this.csrf) headers["X-CSRF-Token"] = this.csrf;
    let response: Response;
    try {
      response = await fetch(`/api/v1/${path}`, {
        method,
        headers,
        credentials: "same-origin",
        cache: "no-store",
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal ? { signal } : {}),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "pgherd does not answer. It may be restarting, or the network is cut off.");
    }
    if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
    const failed = await failure(response);
    if (response.status === 401 && path !== "session") this.unauthorized();
    throw failed;
  }
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  const wait = Number(response.headers.get("Retry-After")) || null;
  let said = "";
  try {
    said = String((JSON.parse(text) as { error?: unknown }).error ?? "");
  } catch {
    // Not from pgherd: a proxy before it has answered.
  }
  return new ApiError(response.status, said || `The server answered ${response.status} ${response.statusText}.`, wait);
}
