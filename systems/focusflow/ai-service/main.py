"""The AI service: suggests times to focus. It asks the database as the person whose token came with the request."""

import json
import os
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Annotated
from zoneinfo import ZoneInfo

import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from psycopg import OperationalError
from psycopg_pool import ConnectionPool, PoolTimeout
from redis import Redis, RedisError

from suggest import WEEKS, suggest

KEPT_SECONDS = 60
# While a key is rotated, what the one before has signed is still accepted.
KEYS = [os.environ[name] for name in ("JWT_SECRET", "JWT_SECRET_PREVIOUS") if os.environ.get(name)]
if not KEYS:
    raise SystemExit("not set: JWT_SECRET")

pool = ConnectionPool(os.environ["DATABASE_URL"], min_size=0, max_size=4, timeout=2, open=False,
                      kwargs={"connect_timeout": 2, "options": "-c statement_timeout=5000"})
cache = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=0.5, socket_connect_timeout=0.5, decode_responses=True)


@asynccontextmanager
async def lifespan(_app):
    pool.open(wait=False)
    yield
    pool.close(timeout=2)


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/livez")
def livez():
    """It lives: asked all the time, and no matter of the database."""
    return {"status": "healthy"}


@app.get("/readyz")
def readyz():
    """It can work: asked before it gets its first request."""
    try:
        with pool.connection() as db:
            db.execute("SELECT 1")
    except (OperationalError, PoolTimeout) as error:
        raise HTTPException(503, f"database: {error}") from error
    return {"status": "healthy"}


def signed_in(authorization: Annotated[str, Header()] = "") -> str:
    """The user whose token it is."""
    token = authorization.removeprefix("Bearer ")
    for key in KEYS:
        try:
            claims = jwt.decode(token, key, ["HS256"], audience="focusflow-api", issuer="focusflow",
                                options={"require": ["sub", "exp"]})
            return claims["sub"]
        except jwt.InvalidTokenError:
            continue
    raise HTTPException(401, "sign in")


@app.get("/suggestions")
def suggestions(user: Annotated[str, Depends(signed_in)], zone: Annotated[str, Query(max_length=64)] = "UTC"):
    """Up to three times of the next seven days."""
    try:
        place = ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise HTTPException(400, "zone is none, like Europe/Berlin") from error
    try:
        found = kept(user, zone) or computed(user, place)
    except (OperationalError, PoolTimeout) as error:
        raise HTTPException(503, "the database is away") from error
    keep(user, zone, found)
    return {"suggestions": found}


def computed(user: str, zone: ZoneInfo) -> list[dict]:
    now = datetime.now(timezone.utc)
    with pool.connection() as db, db.transaction():
        # Row level security shows this transaction that person's rows, and no others.
        db.execute("SELECT set_config('app.user_id', %s, true)", [user])
        asked = "SELECT started_at, ended_at FROM time_logs WHERE started_at > %s ORDER BY started_at"
        logs = db.execute(asked, [now - timedelta(weeks=WEEKS)]).fetchall()
    found = [asdict(one) for one in suggest(logs, now, zone)]
    return [{**one, "starts_at": one["starts_at"].isoformat(), "ends_at": one["ends_at"].isoformat()} for one in found]


# Redis saves work, and nothing more: without it everything is computed anew.
def kept(user: str, zone: str) -> list[dict]:
    try:
        return json.loads(cache.get(f"focusflow:suggestions:{user}:{zone}") or "[]")
    except RedisError:
        return []


def keep(user: str, zone: str, found: list[dict]):
    try:
        if found:
            cache.set(f"focusflow:suggestions:{user}:{zone}", json.dumps(found), ex=KEPT_SECONDS)
    except RedisError:
        pass
