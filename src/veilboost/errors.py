"""Every exception that veilboost raises on purpose.

::

    VeilboostError
    |-- InputError            something the user gave is wrong: exit status 2, before any share is made
    |   |-- JobError          the job file: unknown key, bad value, contradiction
    |   |-- DataError         a table: wrong type, unknown category, missing column
    |   |-- ModelError        a model file that is damaged or of a kind not supported
    |   `-- CiphertextError   bytes or numbers that are no ciphertexts of this key, or damaged
    |-- ParticipantError      another participant is the cause
    |   |-- PeerLost          it died, hung or cannot be reached
    |   |-- PeerMismatch      it runs another job, another version or another number of rows
    |   `-- ProtocolError     it sent a frame that the public program does not expect here
    `-- MaskReuseError        a one-time mask or a correlation would have been used twice

Messages say what is wrong, where, and how to mend it, in one line. They never hold a share, a key or the value
of a cell.
"""


class VeilboostError(Exception):
    """Base of all exceptions of this package."""


class InputError(VeilboostError, ValueError):
    """Something the user gave is wrong; nothing has been computed yet."""


class JobError(InputError):
    """The job file, or a parameter, is wrong."""


class DataError(InputError):
    """A table is wrong."""


class ModelError(InputError):
    """A model file is damaged or of a kind that is not supported."""


class CiphertextError(InputError):
    """Bytes or numbers that are no ciphertexts of this key, or damaged."""


class ParticipantError(VeilboostError):
    """Another participant is the cause."""


class PeerLost(ParticipantError):
    """A participant died, hung or cannot be reached."""


class PeerMismatch(ParticipantError):
    """A participant runs another job, another version or another number of rows."""


class ProtocolError(ParticipantError):
    """A participant sent a frame that the public program does not expect at this step."""


class MaskReuseError(VeilboostError):
    """A one-time mask or a correlation would have been used twice."""
