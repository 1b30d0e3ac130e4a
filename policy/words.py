"""The words of an explanation, in English and Spanish: facts, purposes, roles, sections and duties by name."""

WORDS: dict[str, tuple[str, str]] = {
    # facts
    "special_relief": ("the state of VAWA, T or U relief", "el estado de la protección VAWA, T o U"),
    "special_relief_exception": ("an exception recorded by counsel", "una excepción registrada por el área jurídica"),
    "asylum_information": ("asylum information", "información de asilo"),
    "asylum_exception": ("consent or an exception on asylum", "consentimiento o excepción en materia de asilo"),
    "protection_claim": ("the state of a protection claim", "el estado de una solicitud de protección"),
    "trafficking_victim": ("a victim of trafficking", "una víctima de trata"),
    "victim_consent": ("the victim's consent", "el consentimiento de la víctima"),
    "classified": ("classified content", "contenido clasificado"),
    # claims
    "none": ("none", "ninguna"),
    "pending": ("pending", "pendiente"),
    # purposes
    "border_security": ("border security", "seguridad fronteriza"),
    "customs_enforcement": ("customs enforcement", "control aduanero"),
    "criminal_investigation": ("criminal investigation", "investigación penal"),
    "prosecution": ("prosecution", "procuración de justicia"),
    "repatriation": ("repatriation", "repatriación"),
    "consular_protection": ("consular protection", "protección consular"),
    "child_protection": ("child protection", "protección de la niñez"),
    "victim_assistance": ("victim assistance", "asistencia a víctimas"),
    "financial_intelligence": ("financial intelligence", "inteligencia financiera"),
    "facilitation": ("facilitation", "facilitación"),
    "statistics": ("statistics", "estadística"),
    "oversight": ("oversight", "supervisión"),
    "imminent_danger": ("imminent danger", "peligro inminente"),
    # roles that are not purposes
    "migration": ("migration", "migración"),
    "customs": ("customs", "aduanas"),
    "border": ("border", "frontera"),
    "victim_protection": ("victim protection", "protección de víctimas"),
    "consular": ("consular affairs", "asuntos consulares"),
    "health": ("health", "salud"),
    "port_operations": ("port operations", "operación portuaria"),
    "military": ("military", "militar"),
    "intelligence": ("intelligence", "inteligencia"),
    "asylum": ("asylum", "asilo"),
    # flags
    "derived_from": ("a source in another agency's record", "un origen en el registro de otra autoridad"),
    "onward_consent": ("the originator's consent", "el consentimiento de quien lo originó"),
    # sections
    "kind": ("kind", "tipo"),
    "identity": ("identity", "identidad"),
    "travel": ("travel", "viaje"),
    "documents": ("documents", "documentos"),
    "residence": ("residence", "residencia"),
    "references": ("references", "referencias"),
    "baggage": ("baggage", "equipaje"),
    "assistance": ("assistance", "asistencia"),
    "crossing": ("crossing", "cruce"),
    "answer": ("answer", "respuesta"),
    "payment": ("payment", "pago"),
    "contact": ("contact", "contacto"),
    "verification": ("verification", "verificación"),
    # duties
    "retain": ("destroy after", "destruir después de"),
    "caveat": ("caveat", "restricción"),
    "notify": ("notify", "notificar a"),
    "account": ("account for the disclosure", "contabilizar la revelación"),
    "notice": ("notice", "aviso"),
}


def word(name: str, language: str) -> str:
    """The word for a name of the vocabulary; a name without one (an instrument id) stands for itself."""
    english, spanish = WORDS.get(name, (name, name))
    return spanish if language == "es" else english
