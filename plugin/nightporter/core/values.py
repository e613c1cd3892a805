"""Data classes without the price of `dataclasses`.

The standard library writes source text for each class and compiles it: 0.3 to 0.6 ms a class, and
an import of `inspect`. A cold answer defines some eighty, which was a quarter of its time. Here the
methods are closures over the class's fields, which makes a class in a twentieth of that; to make
an instance takes about as long as before (decision 0022).

What is here does what `dataclasses` documents for the same words: frozen, slots, kw_only; default,
default_factory, init, repr, compare; `__post_init__`, inheritance, copies and pickles. Type
checkers read it as `dataclasses`, so every rule of theirs holds. Left out, since nothing uses it:
order, unsafe_hash, InitVar, weakref_slot, kw_only for single fields.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False  # without an import of typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MISSING: Any = object()


class Field:
    """One member of a data class. `put(instance, value)` sets it, frozen or not."""

    __slots__ = ("compare", "default", "factory", "init", "name", "put", "repr")

    def __init__(
        self,
        *,
        default: Any = MISSING,
        default_factory: Callable[[], Any] | None = None,
        init: bool = True,
        repr: bool = True,  # noqa: A002 - the word of dataclasses
        compare: bool = True,
    ) -> None:
        self.name = ""
        self.default = default
        self.factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.put: Callable[[Any, Any], None]


def _dataclass(
    cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, kw_only: bool = False
) -> Any:
    """A class decorator, with or without its options."""

    def decorate(cls: type) -> type:
        own = _own_fields(cls)
        found = {field.name: field for base in cls.__mro__[:0:-1] for field in _fields_of(base)}
        found |= {field.name: field for field in own}
        if slots:
            cls = _with_slots(cls, own)
        every = tuple(found.values())
        for field in own:
            field.put = _setter(cls, field.name, slots)
        positional = () if kw_only else tuple(field.name for field in every if field.init)
        members = _methods(every, positional) | (_frozen_methods(every) if frozen else {})
        for name, member in members.items():
            if name not in cls.__dict__ or (name == "__hash__" and cls.__hash__ is None):
                setattr(cls, name, member)
        return cls

    return decorate if cls is None else decorate(cls)


def _own_fields(cls: type) -> list[Field]:
    """The fields that the class itself names; their defaults are taken out of it where a slot
    will stand."""
    found = []
    for name, annotation in cls.__annotations__.items():
        if str(annotation).startswith("ClassVar"):
            continue
        default = cls.__dict__.get(name, MISSING)
        field = default if isinstance(default, Field) else Field(default=default)
        if field is default:
            delattr(cls, name)
            if field.default is not MISSING:
                setattr(cls, name, field.default)
        field.name = name
        found.append(field)
    return found


def _fields_of(cls: type) -> tuple[Field, ...]:
    found: tuple[Field, ...] = cls.__dict__.get("__fields__", ())
    return found


def _with_slots(cls: type, own: list[Field]) -> type:
    """The same class once more, with a slot for each of its fields: slots can't be added to one."""
    namespace = dict(cls.__dict__)
    for name in ("__dict__", "__weakref__", *(field.name for field in own)):
        namespace.pop(name, None)
    namespace["__slots__"] = tuple(field.name for field in own)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


def _setter(cls: type, name: str, slots: bool) -> Callable[[Any, Any], None]:
    if slots:
        setter: Callable[[Any, Any], None] = cls.__dict__[name].__set__
        return setter
    return lambda instance, value: object.__setattr__(instance, name, value)


def _methods(every: tuple[Field, ...], positional: tuple[str, ...]) -> dict[str, Any]:
    compared = _picker([field.name for field in every if field.compare])
    shown = [field.name for field in every if field.repr]

    def show(self: Any) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({inner})"

    def equals(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return compared(self) == compared(other)

    return {
        "__fields__": every,
        "__match_args__": positional,
        "__init__": _initialiser(every, positional),
        "__repr__": show,
        "__eq__": equals,
        "__hash__": None,
    }


def _initialiser(every: tuple[Field, ...], positional: tuple[str, ...]) -> Callable[..., None]:
    puts = [(field.name, field.put) for field in every if field.init]
    made = [(field.name, field.factory) for field in every if field.init and field.factory]
    defaults = {
        field.name: field.default for field in every if field.init and field.default is not MISSING
    }
    fixed = [field for field in every if not field.init]

    def initialise(self: Any, *given: Any, **named: Any) -> None:
        if given:
            _name_positional(self, given, named, positional)
        values = {**defaults, **named} if defaults else named
        for name, factory in made:
            if name not in values:
                values[name] = factory()
        try:
            for name, put in puts:
                put(self, values[name])
        except KeyError:
            raise TypeError(f"{type(self).__qualname__}() misses the argument {name!r}") from None
        if len(values) != len(puts):
            unknown = next(key for key in values if all(key != name for name, _put in puts))
            raise TypeError(f"{type(self).__qualname__}() takes no argument {unknown!r}")
        for field in fixed:
            _put_fixed(self, field)
        after = getattr(self, "__post_init__", None)
        if after is not None:
            after()

    return initialise


def _put_fixed(instance: Any, field: Field) -> None:
    """Gives a field that no argument sets its default; without one `__post_init__` sets it."""
    if field.factory is not None:
        field.put(instance, field.factory())
    elif field.default is not MISSING:
        field.put(instance, field.default)


def _name_positional(
    instance: Any, given: tuple[Any, ...], named: dict[str, Any], positional: tuple[str, ...]
) -> None:
    """Gives the positional arguments their names."""
    if len(given) > len(positional) or any(name in named for name in positional[: len(given)]):
        raise TypeError(
            f"{type(instance).__qualname__}() takes {len(positional)} positional arguments, each"
            " once"
        )
    named.update(zip(positional, given, strict=False))


def _frozen_methods(every: tuple[Field, ...]) -> dict[str, Any]:
    compared = _picker([field.name for field in every if field.compare])
    kept = _picker([field.name for field in every])

    def refuse(self: Any, name: str, *_value: object) -> None:
        raise AttributeError(f"field {name!r} of {type(self).__qualname__} can't be changed")

    def digest(self: Any) -> int:
        return hash(compared(self))

    def state(self: Any) -> tuple[Any, ...]:
        return kept(self)

    def restore(self: Any, state: tuple[Any, ...]) -> None:
        for field, value in zip(every, state, strict=True):
            field.put(self, value)

    return {
        "__setattr__": refuse,
        "__delattr__": refuse,
        "__hash__": digest,
        "__getstate__": state,
        "__setstate__": restore,
    }


def _picker(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What gets these attributes of an instance, as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _replace(instance: Any, /, **changes: Any) -> Any:
    """The same once more, with other values for some fields."""
    for field in instance.__fields__:
        if field.init and field.name not in changes:
            changes[field.name] = getattr(instance, field.name)
    return type(instance)(**changes)


def _asdict(instance: Any) -> dict[str, Any]:
    """The fields by name; values stay what they are."""
    return {field.name: getattr(instance, field.name) for field in instance.__fields__}


def _fields(instance: Any) -> tuple[Field, ...]:
    """The fields of an instance or a class."""
    found: tuple[Field, ...] = instance.__fields__
    return found


if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, replace

    __all__ = ["asdict", "dataclass", "field", "fields", "replace"]
else:
    asdict, dataclass, field, fields, replace = _asdict, _dataclass, Field, _fields, _replace
