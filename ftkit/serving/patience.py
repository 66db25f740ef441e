"""How long a connection may take over its next request, and over reading its answer: slow clients hold no places.

uvicorn.Config(app, http=patient_protocol())
"""

SECONDS_TO_ASK = 30  # from the first byte of a request, or the start of a connection, to the end of its headers
SECONDS_TO_READ = 60  # that a client may take nothing of an answer that waits for it


def patient_protocol() -> type:
    """uvicorn's protocol in Python, whose connections end where a client is too slow."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return type("PatientProtocol", (Patience, H11Protocol), {})


class Patience:
    """What goes in front of a protocol of uvicorn: two timers, of the request that is awaited and of what is sent."""

    asking = reading = None

    def connection_made(self, transport) -> None:
        """A client has come."""
        super().connection_made(transport)
        self.await_request()

    def data_received(self, data: bytes) -> None:
        """It sends something; what matters is whether a request has begun with it."""
        super().data_received(data)
        self.await_request()

    def connection_lost(self, exc) -> None:
        """It has gone."""
        super().connection_lost(exc)
        self.stop("asking")
        self.stop("reading")

    def pause_writing(self) -> None:
        """It does not read what was sent, of which enough waits."""
        super().pause_writing()
        self.reading = self.loop.call_later(SECONDS_TO_READ, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self.stop("reading")

    def await_request(self) -> None:
        """Wait for a while where no whole request has come, from when that began."""
        import h11

        if self.conn.their_state is not h11.IDLE or self.conn.our_state is not h11.IDLE:
            self.stop("asking")
        elif self.asking is None:
            self.asking = self.loop.call_later(SECONDS_TO_ASK, self.transport.close)

    def stop(self, name: str) -> None:
        """End a timer."""
        if (timer := getattr(self, name)) is not None:
            timer.cancel()
            setattr(self, name, None)
