"""How long a connection may take over its next request: slow clients must not hold a server's places.

uvicorn.Config(app, http=patient_protocol())
"""

SECONDS_TO_ASK = 30  # from the first byte of a request, or the start of a connection, to the end of its headers


def patient_protocol() -> type:
    """uvicorn's protocol in Python, whose connections end where no whole request comes in time."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        """See above."""

        patience = None

        def connection_made(self, transport) -> None:
            """A client has come."""
            super().connection_made(transport)
            self.be_patient()

        def data_received(self, data: bytes) -> None:
            """It sends something; what matters is whether a request has begun with it."""
            super().data_received(data)
            self.be_patient()

        def connection_lost(self, exc) -> None:
            """It has gone."""
            super().connection_lost(exc)
            self.stop_waiting()

        def be_patient(self) -> None:
            """Wait for a while where no whole request has come, from when that began."""
            is_asking = self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE
            if not is_asking:
                self.stop_waiting()
            elif self.patience is None:
                self.patience = self.loop.call_later(SECONDS_TO_ASK, self.hang_up)

        def stop_waiting(self) -> None:
            """A request has come, or the connection has ended."""
            if self.patience is not None:
                self.patience.cancel()
                self.patience = None

        def hang_up(self) -> None:
            """Close the connection."""
            self.transport.close()

    return PatientProtocol
